//! Where the API server is, and as whom it is asked.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kube::Config;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster,
    NamedContext,
};

use super::plugin::Plugin;

/// Where the kubelet puts the account of a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Until a connection is there.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the API server is, and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// As a kubeconfig says.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Its context, if not the current one.
        context: Option<String>,
    },
    /// As the service account of the pod that this runs in.
    Account {
        /// The folder that has `token` and `ca.crt`.
        folder: PathBuf,
        /// The API server, `https://HOST:PORT`.
        server: String,
    },
}

/// There is no way to the API server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Neither a kubeconfig nor a pod.
    #[error(
        "this is no pod of a cluster, since KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: name a kubeconfig with --kubeconfig, or a folder with --manifests"
    )]
    NoPod,
    /// The environment names no server.
    #[error("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT name no server: {0}")]
    Environment(String),
    /// A file is missing, or has not what it should.
    #[error("{}: {cause}", path.display())]
    Files {
        /// The kubeconfig, or the folder of the account.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

impl Access {
    /// The account of the pod that this runs in. `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` say where the
    /// API server is, so that a manifest may name one that needs no Service.
    ///
    /// # Errors
    /// This is no pod.
    pub fn of_pod() -> Result<Self, AccessError> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let host = variable("KUBERNETES_SERVICE_HOST");
        let port = variable("KUBERNETES_SERVICE_PORT");
        let (Some(host), Some(port)) = (host, port) else {
            return Err(AccessError::NoPod);
        };
        Ok(Self::Account {
            folder: ACCOUNT.into(),
            server: server(&host, &port)?,
        })
    }

    /// Reads what there is.
    pub(super) fn read(&self) -> Result<Found<'_>, AccessError> {
        let mut files = self.files();
        let (mut kubeconfig, context) = match self {
            Self::Kubeconfig { path, context } => {
                let kubeconfig = Kubeconfig::read_from(path);
                let kubeconfig = kubeconfig.map_err(|error| self.error(&error))?;
                (kubeconfig, context.clone())
            }
            Self::Account { folder, server } => (account(folder, server), None),
        };
        files.0.extend(Files::now(named(&kubeconfig)).0);
        for info in &mut kubeconfig.auth_infos {
            if let Some(info) = &mut info.auth_info
                && info.token_file.is_some()
            {
                // As in client-go; kube would never look at the file.
                info.token = None;
            }
        }
        let plugin = Plugin::take(&mut kubeconfig, context.as_deref());
        Ok(Found {
            access: self,
            kubeconfig,
            context,
            files,
            plugin,
        })
    }

    /// What is read first, as it is now.
    pub(super) fn files(&self) -> Files {
        match self {
            Self::Kubeconfig { path, .. } => Files::now([path.clone()]),
            Self::Account { .. } => Files::default(),
        }
    }

    pub(super) fn error(&self, error: &dyn std::error::Error) -> AccessError {
        self.wrong(&super::error::chain(error))
    }

    fn wrong(&self, cause: &str) -> AccessError {
        let path = match self {
            Self::Kubeconfig { path, .. } => path,
            Self::Account { folder, .. } => folder,
        };
        AccessError::Files {
            path: path.clone(),
            cause: cause.to_owned(),
        }
    }
}

/// What was found.
pub(super) struct Found<'a> {
    access: &'a Access,
    kubeconfig: Kubeconfig,
    context: Option<String>,
    /// The files that it came from.
    pub(super) files: Files,
    /// What says who we are, if that is a program.
    plugin: Option<Plugin>,
}

impl Found<'_> {
    /// Whether a program has to be run before anybody can ask.
    pub(super) fn has_plugin(&self) -> bool {
        self.plugin.is_some()
    }

    /// Asks who we are, where a program says that, and says until when that holds.
    pub(super) async fn ask_plugin(&mut self) -> Result<Option<Timestamp>, AccessError> {
        let Some(plugin) = &self.plugin else {
            return Ok(None);
        };
        let until = plugin.run(&mut self.kubeconfig).await;
        until.map_err(|error| self.access.error(&error))
    }

    /// What a client needs.
    pub(super) async fn config(&self) -> Result<Config, AccessError> {
        let mut clusters = self.kubeconfig.clusters.iter();
        let names_proxy = clusters.any(|named| {
            let proxy = named.cluster.as_ref().and_then(|of| of.proxy_url.as_ref());
            proxy.is_some()
        });
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(self.kubeconfig.clone(), &options).await;
        let mut config = config.map_err(|error| self.access.error(&error))?;
        config.connect_timeout = Some(CONNECT);
        config.write_timeout = Some(CONNECT);
        // How long an answer may take depends on what is asked for; who asks waits, and tries again.
        config.read_timeout = None;
        config.default_retry = false;
        if !names_proxy {
            // HTTPS_PROXY is for what is outside of the cluster.
            config.proxy_url = None;
        }
        let provider = config.auth_info.auth_provider.as_ref();
        if provider.is_some_and(|provider| provider.config.contains_key("cmd-path")) {
            return Err(self.access.wrong(
                "an auth-provider runs a program, which is not supported, nor is it by Kubernetes since 1.26: name it as `exec`",
            ));
        }
        Ok(config)
    }
}

fn server(host: &str, port: &str) -> Result<String, AccessError> {
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    };
    let server = format!("https://{host}:{port}");
    let wrong = |what: String| AccessError::Environment(what);
    let parsed: hyper::Uri = server.parse().map_err(|error| wrong(format!("{error}")))?;
    let is_server = parsed.port_u16().is_some() && parsed.path() == "/" && parsed.query().is_none();
    match is_server {
        true => Ok(server),
        false => Err(wrong(server)),
    }
}

/// The account as a kubeconfig: what is read again when it changes is the same for both.
fn account(folder: &Path, server: &str) -> Kubeconfig {
    let file = |name| Some(folder.join(name).to_string_lossy().into_owned());
    let name = "pod".to_owned();
    Kubeconfig {
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(Cluster {
                server: Some(server.to_owned()),
                certificate_authority: file("ca.crt"),
                ..Cluster::default()
            }),
            other: BTreeMap::new(),
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(AuthInfo {
                token_file: file("token"),
                ..AuthInfo::default()
            }),
            other: BTreeMap::new(),
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context {
                cluster: name.clone(),
                user: Some(name.clone()),
                ..Context::default()
            }),
            other: BTreeMap::new(),
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    }
}

/// The files that a kubeconfig names.
fn named(kubeconfig: &Kubeconfig) -> Vec<PathBuf> {
    let clusters = kubeconfig.clusters.iter().flat_map(|named| &named.cluster);
    let authorities = clusters.filter_map(|cluster| cluster.certificate_authority.clone());
    let infos = kubeconfig.auth_infos.iter();
    let infos = infos.flat_map(|named| &named.auth_info).flat_map(|info| {
        let files = [&info.client_certificate, &info.client_key, &info.token_file];
        files.into_iter().flatten().cloned()
    });
    authorities.chain(infos).map(PathBuf::from).collect()
}

/// Files as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files(Vec<(PathBuf, Option<Version>)>);

/// What tells a version of a file from another without reading it: device, inode, size, modification and change.
type Version = (u64, u64, u64, (i64, i64), (i64, i64));

impl Files {
    /// As they are now. What is read after this is at least as new, so that no change is missed.
    fn now(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let with_version = |path: PathBuf| {
            let version = fs::metadata(&path).ok().map(|of| {
                let modified = (of.mtime(), of.mtime_nsec());
                (
                    of.dev(),
                    of.ino(),
                    of.size(),
                    modified,
                    (of.ctime(), of.ctime_nsec()),
                )
            });
            (path, version)
        };
        Self(paths.into_iter().map(with_version).collect())
    }

    /// Whether any is another now.
    pub(super) fn have_changed(&self) -> bool {
        let paths = self.0.iter().map(|(path, _)| path.clone());
        *self != Self::now(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_server() {
        assert_eq!(server("10.96.0.1", "443").unwrap(), "https://10.96.0.1:443");
        assert_eq!(server("fd00::1", "6443").unwrap(), "https://[fd00::1]:6443");
        assert_eq!(server("api.example", "1").unwrap(), "https://api.example:1");
        for (host, port) in [
            ("10.96.0.1", "tcp://10.0.0.1:443"),
            ("a b", "1"),
            ("a", "65536"),
            ("a", "1/x"),
        ] {
            assert!(server(host, port).is_err(), "{host} {port}");
        }
    }
}
