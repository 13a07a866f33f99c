//! Tokens and certificates that are replaced, over real sockets.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controller::agent::metrics::Metrics;
use controller::agent::source::{Event, Source};
use controller::agent::watches::Watches;
use controller::kubernetes::{Access, Client, Resource};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Request, server};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::double::{Double, Fault};
use super::world::{NODE, namespace, node, pod, policy};

/// An API server at an address, that knows one token.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) double: Double,
    /// The tokens that it knows; any if there is none.
    tokens: Arc<Mutex<Vec<String>>>,
    tls: Arc<Mutex<Option<TlsAcceptor>>>,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let double = Double::default();
        double.put(Resource::Namespaces, namespace("shop"));
        double.put(Resource::Nodes, node(NODE));
        double.put(Resource::Pods, pod("web", "10.0.0.1"));
        double.put(Resource::NetworkPolicies, policy("web"));
        let server = Self {
            double,
            tokens: Arc::default(),
            tls: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = accepting.clone();
                tokio::spawn(async move {
                    let tls = server.tls.lock().unwrap().clone();
                    match tls {
                        None => server.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                server.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let answer = |request: Request<Incoming>| async move {
            let given = request.headers().get(AUTHORIZATION);
            let given = given.map(|given| given.to_str().unwrap().to_owned());
            let known = self.tokens.lock().unwrap().clone();
            let mut known = known.iter().map(|known| format!("Bearer {known}"));
            if known.len() > 0 && !known.any(|known| given.as_ref() == Some(&known)) {
                return Ok(self
                    .double
                    .refuse(Fault::status(401, "Unauthorized", "Unauthorized")));
            }
            self.double.answer(request.uri()).await
        };
        let connection = server::conn::http1::Builder::new();
        let connection = connection.serve_connection(TokioIo::new(stream), service_fn(answer));
        // A client that goes is no failure.
        drop(connection.await);
    }

    /// Knows only this token, and ends what others have.
    pub(crate) fn knows(&self, token: &str) {
        *self.tokens.lock().unwrap() = vec![token.to_owned()];
        self.double.end(true);
    }

    /// Knows this token too.
    pub(crate) fn learns(&self, token: &str) {
        self.tokens.lock().unwrap().push(token.to_owned());
    }

    /// Takes only clients of this authority, and ends what others have.
    fn presents(&self, authority: &Authority) {
        let (certificate, key) = authority.issue();
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots))
            .build()
            .unwrap();
        let config = ServerConfig::builder().with_client_cert_verifier(clients);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config
            .with_single_cert(vec![certificate.into()], key)
            .unwrap();
        *self.tls.lock().unwrap() = Some(Arc::new(config).into());
        self.double.end(true);
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

/// A folder of the test's own.
pub(crate) fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("watches-{test}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

pub(crate) fn kubeconfig(server: &str, cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: '{server}'{cluster}}}}}]
users: [{{name: u, user: {{{user}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}, {{name: other, context: {{cluster: none, user: u}}}}]
current-context: x
"
    )
}

pub(crate) async fn watch(access: Access) -> Watches {
    let client = Client::new(access).await.unwrap();
    let (watches, work) = Watches::with(client, NODE, Metrics::new());
    tokio::spawn(work);
    watches
}

/// The next event of which this is so.
pub(crate) async fn until(watches: &mut Watches, what: &str, holds: impl Fn(&Event) -> bool) {
    let found = async { while !holds(&watches.next().await) {} };
    let found = timeout(Duration::from_secs(60), found).await;
    found.unwrap_or_else(|_| panic!("{what} did not come"));
}

pub(crate) async fn until_unknown(watches: &mut Watches) {
    let is_unknown = |event: &Event| match event {
        Event::Problems(problems) => {
            let unknown = problems.get("pods").map(|problem| &problem.message);
            unknown.is_some_and(|message| message.contains("does not know us"))
        }
        _ => false,
    };
    until(watches, "a 401", is_unknown).await;
}

pub(crate) async fn until_well(watches: &mut Watches) {
    let is_well = |event: &Event| matches!(event, Event::Problems(problems) if problems.is_empty());
    until(watches, "an end of problems", is_well).await;
}

pub(crate) async fn until_pod(watches: &mut Watches, server: &Server, name: &str) {
    server.double.put(Resource::Pods, pod(name, "10.0.0.77"));
    until(watches, name, |event| format!("{event:?}").contains(name)).await;
}

#[tokio::test]
async fn a_token_file_that_is_rewritten_is_read_when_the_api_server_does_not_know_us() {
    let server = Server::start().await;
    let folder = folder("token");
    fs::write(folder.join("token"), "old").unwrap();
    let url = format!("http://{}", server.address);
    // The file counts, as in client-go, and its path is the kubeconfig's.
    let text = kubeconfig(&url, "", "token: inline, tokenFile: token");
    fs::write(folder.join("config"), text).unwrap();
    server.knows("old");
    let mut watches = watch(Access::Kubeconfig {
        path: folder.join("config"),
        context: None,
    })
    .await;
    until(&mut watches, "a start", |event| {
        matches!(event, Event::Reset(_))
    })
    .await;
    server.knows("new");
    until_unknown(&mut watches).await;
    fs::write(folder.join("token"), "new").unwrap();
    until_well(&mut watches).await;
    until_pod(&mut watches, &server, "later").await;
}

#[tokio::test]
async fn the_account_of_a_pod_is_replaced_as_the_kubelet_does_it() {
    let server = Server::start().await;
    let folder = folder("account");
    let (first, second) = (Authority::new(), Authority::new());
    let version = |name: &str, authority: &Authority| {
        let of = folder.join(name);
        fs::create_dir(&of).unwrap();
        fs::write(of.join("token"), name).unwrap();
        fs::write(of.join("ca.crt"), authority.0.pem()).unwrap();
        symlink(name, folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    };
    version("one", &first);
    for file in ["token", "ca.crt"] {
        symlink(format!("..data/{file}"), folder.join(file)).unwrap();
    }
    let (certificate, key) = first.issue();
    let config = ServerConfig::builder().with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    *server.tls.lock().unwrap() = Some(Arc::new(config).into());
    server.knows("one");
    let mut watches = watch(Access::Account {
        folder: folder.clone(),
        server: format!("https://{}", server.address),
    })
    .await;
    until(&mut watches, "a start", |event| {
        matches!(event, Event::Reset(_))
    })
    .await;

    let (certificate, key) = second.issue();
    let config = ServerConfig::builder().with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    *server.tls.lock().unwrap() = Some(Arc::new(config).into());
    version("two", &second);
    server.knows("two");
    until_pod(&mut watches, &server, "later").await;
}

#[tokio::test]
async fn certificates_that_are_replaced_are_read_and_half_a_replacement_changes_nothing() {
    let server = Server::start().await;
    let folder = folder("certificates");
    let put = |authority: &Authority| {
        let (certificate, key) = authority.issue();
        fs::write(folder.join("ca.crt"), authority.0.pem()).unwrap();
        fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    };
    let (first, second) = (Authority::new(), Authority::new());
    put(&first);
    server.presents(&first);
    let url = format!("https://{}", server.address);
    let user = "client-certificate: tls.crt, client-key: tls.key";
    let text = kubeconfig(&url, ", certificate-authority: ca.crt", user);
    fs::write(folder.join("config"), text).unwrap();
    let mut watches = watch(Access::Kubeconfig {
        path: folder.join("config"),
        context: None,
    })
    .await;
    until(&mut watches, "a start", |event| {
        matches!(event, Event::Reset(_))
    })
    .await;

    // The key is not there yet: the old client goes on.
    let key = fs::read(folder.join("tls.key")).unwrap();
    fs::write(folder.join("tls.key"), "").unwrap();
    server.double.end(false);
    until_pod(&mut watches, &server, "between").await;
    fs::write(folder.join("tls.key"), key).unwrap();

    server.presents(&second);
    let is_trouble = |event: &Event| match event {
        Event::Problems(problems) => problems.contains_key("pods"),
        _ => false,
    };
    until(&mut watches, "trouble", is_trouble).await;
    put(&second);
    until_well(&mut watches).await;
    until_pod(&mut watches, &server, "later").await;
}

#[tokio::test]
async fn what_says_where_the_api_server_is_has_to_be_there_at_the_start() {
    let folder = folder("start");
    let missing = Access::Kubeconfig {
        path: folder.join("none"),
        context: None,
    };
    let error = Client::new(missing).await.unwrap_err().to_string();
    assert!(
        error.contains("watches-start/none: ") && error.contains("No such file"),
        "{error}"
    );
    fs::write(
        folder.join("config"),
        kubeconfig("http://127.0.0.1:1", "", "token: t"),
    )
    .unwrap();
    for (context, part) in [("other", "none"), ("nowhere", "nowhere")] {
        let access = Access::Kubeconfig {
            path: folder.join("config"),
            context: Some(context.to_owned()),
        };
        let error = Client::new(access).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let account = Access::Account {
        folder: folder.clone(),
        server: "https://127.0.0.1:1".to_owned(),
    };
    let error = Client::new(account).await.unwrap_err().to_string();
    assert!(error.contains("ca.crt"), "{error}");
}
