//! A kube-apiserver with an etcd, alone in a network namespace: no kubelet, no controllers, no scheduler.
//!
//! What a test writes is there as it was written: nobody starts a pod, gives it an address, or makes service accounts.
//! The programs are those that `testdata/kube-apiserver` pins, or those of `KUBEBUILDER_ASSETS`.

#![allow(dead_code, reason = "each test program uses a part")]

mod accounts;
mod certificates;
mod objects;
mod processes;

use std::fs;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use accounts::{Account, rule};
use certificates::Certificates;
#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use objects::{apply, delete};
use processes::{Process, Processes};

use crate::support::Folder;

/// How long something that must come about may take. A machine that is busy with other tests starts a server in many
/// times the two seconds that it takes alone.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

// Nobody else is in the namespace, so that these are free.
const ETCD: &str = "127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";
const ADDRESS: &str = "127.0.0.1";
const PORT: &str = "6443";

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Etcd,
    ApiServer,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Etcd => "etcd",
            Program::ApiServer => "kube-apiserver",
        }
    }
}

/// Both programs, their data, and who may ask. They end when this is dropped.
pub(crate) struct ApiServer {
    // Before the thread that they are children of.
    etcd: Option<Process>,
    api_server: Option<Process>,
    processes: Processes,
    certificates: Certificates,
    /// Data, certificates, logs and kubeconfigs.
    folder: Folder,
}

impl ApiServer {
    /// Starts both in the namespace, whose loopback interface is up, and waits until they are ready.
    pub(crate) fn start(namespace: &impl AsFd) -> Self {
        let mut server = Self {
            etcd: None,
            api_server: None,
            processes: Processes::new(namespace),
            certificates: Certificates::new(&[ADDRESS]),
            folder: Folder::new("api-server"),
        };
        server.write_certificates();
        server.run(Program::Etcd);
        server.run(Program::ApiServer);
        server
    }

    fn write_certificates(&self) {
        let certificates = &self.certificates;
        let write = |name, text: &str| fs::write(self.path(name), text).unwrap();
        write("authority.crt", &certificates.authority);
        write("server.crt", &certificates.server.certificate);
        write("server.key", &certificates.server.key);
        write("tokens.key", &certificates.tokens.serialize_pem());
        write("tokens.pub", &certificates.tokens.public_key_pem());
        let administrator = &certificates.administrator;
        let administrator = json!({
            "client-certificate-data": base64(&administrator.certificate),
            "client-key-data": base64(&administrator.key),
        });
        self.write_kubeconfig("admin", &administrator);
    }

    /// A kubeconfig for somebody who proves to be who they are by this.
    fn write_kubeconfig(&self, name: &str, user: &Value) -> PathBuf {
        let cluster = json!({
            "server": format!("https://{ADDRESS}:{PORT}"),
            "certificate-authority-data": base64(&self.certificates.authority),
        });
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        });
        let path = self.path(&format!("{name}.kubeconfig"));
        // JSON is YAML.
        fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The kubeconfig of somebody who may do everything.
    pub(crate) fn administrator(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// The kubeconfig of somebody who does not say who they are.
    pub(crate) fn nobody(&self) -> PathBuf {
        self.write_kubeconfig("nobody", &json!({}))
    }

    /// Runs `work` as the administrator, on a thread in the namespace.
    pub(crate) fn ask<T: Send>(&self, work: impl AsyncFnOnce(Client) -> T + Send) -> T {
        self.ask_as(&self.administrator(), work)
    }

    /// Runs `work` as whose kubeconfig this is, on a thread in the namespace.
    pub(crate) fn ask_as<T: Send>(
        &self,
        kubeconfig: &Path,
        work: impl AsyncFnOnce(Client) -> T + Send,
    ) -> T {
        self.processes.run(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
                work(Client::try_from(config.unwrap()).unwrap()).await
            })
        })
    }

    /// Starts a program that does not run, with the data that it had, and waits until it is ready.
    pub(crate) fn run(&mut self, program: Program) {
        let arguments = match program {
            Program::Etcd => self.etcd_arguments(),
            Program::ApiServer => self.api_server_arguments(),
        };
        let log = self.path(&format!("{}.log", program.name()));
        let mut process = self
            .processes
            .start(&binary(program.name()), &arguments, log);
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(program) {
            process.assert_runs();
            assert!(
                Instant::now() < deadline,
                "{} does not become ready: {}",
                program.name(),
                process.last_words()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        *self.slot(program) = Some(process);
    }

    fn slot(&mut self, program: Program) -> &mut Option<Process> {
        match program {
            Program::Etcd => &mut self.etcd,
            Program::ApiServer => &mut self.api_server,
        }
    }

    fn running(&mut self, program: Program) -> Process {
        let process = self.slot(program).take();
        process.unwrap_or_else(|| panic!("{} does not run", program.name()))
    }

    /// Has a program end in its own order.
    pub(crate) fn stop(&mut self, program: Program) {
        self.running(program).end(Signal::SIGTERM);
    }

    /// Ends a program in the middle of whatever it does.
    pub(crate) fn kill(&mut self, program: Program) {
        self.running(program).end(Signal::SIGKILL);
    }

    /// Stops a program without its end: nobody answers, and no connection is closed.
    pub(crate) fn freeze(&self, program: Program) {
        self.process(program).signal(Signal::SIGSTOP);
    }

    /// Lets a program go on that was frozen.
    pub(crate) fn thaw(&self, program: Program) {
        self.process(program).signal(Signal::SIGCONT);
    }

    fn process(&self, program: Program) -> &Process {
        let process = match program {
            Program::Etcd => &self.etcd,
            Program::ApiServer => &self.api_server,
        };
        let process = process.as_ref();
        process.unwrap_or_else(|| panic!("{} does not run", program.name()))
    }

    /// The process that a program is.
    pub(crate) fn id(&self, program: Program) -> u32 {
        self.process(program).id()
    }

    /// Whether it answers that it is ready.
    pub(crate) fn is_ready(&self, program: Program) -> bool {
        match program {
            Program::Etcd => self.processes.run(|| TcpStream::connect(ETCD).is_ok()),
            Program::ApiServer => self.ask(async |client| {
                let request = hyper::Request::get("/readyz").body(Vec::new()).unwrap();
                client.request_text(request).await.is_ok()
            }),
        }
    }

    fn etcd_arguments(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.path("etcd").display()),
            format!("--listen-client-urls=http://{ETCD}"),
            format!("--advertise-client-urls=http://{ETCD}"),
            format!("--listen-peer-urls={ETCD_PEERS}"),
            format!("--initial-advertise-peer-urls={ETCD_PEERS}"),
            format!("--initial-cluster=default={ETCD_PEERS}"),
            // The machine does not lose its power in a test, and a killed process' writes are the kernel's.
            "--unsafe-no-fsync".to_owned(),
        ]
    }

    fn api_server_arguments(&self) -> Vec<String> {
        let file = |name| self.path(name).display().to_string();
        vec![
            format!("--etcd-servers=http://{ETCD}"),
            format!("--bind-address={ADDRESS}"),
            format!("--advertise-address={ADDRESS}"),
            format!("--secure-port={PORT}"),
            format!("--client-ca-file={}", file("authority.crt")),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("tokens.pub")),
            format!("--service-account-signing-key-file={}", file("tokens.key")),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            // A loopback address is no endpoint of the Service `kubernetes`, which nobody here asks for.
            "--endpoint-reconciler-type=none".to_owned(),
            // It refuses pods in a namespace without the account `default`, which only a controller manager makes.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ]
    }
}

/// Where a program is. The first time this builds it, which takes minutes.
fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS") {
        return Path::new(&folder).join(name);
    }
    let build = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../testdata/kube-apiserver/build"
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kube-apiserver");
    let built = Command::new(build).arg(&folder).status().unwrap();
    assert!(
        built.success(),
        "{build} failed: install Go 1.21 or later, or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver"
    );
    folder.join(name)
}

fn base64(text: &str) -> String {
    let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
    let Ok(Value::String(text)) = serde_json::to_value(bytes) else {
        unreachable!("bytes are text in JSON")
    };
    text
}
