//! containerd as the kubelet uses it, over the Container Runtime Interface.

use std::collections::HashMap;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::cri;
use crate::error::{Error, io};
use crate::image;
use crate::network::{Network, PLUGINS};
use crate::node::Node;
use crate::pod::Pod;

const SOCKET: &str = "/run/containerd/containerd.sock";
const CONFIGURATION: &str = "/run/containerd/config.toml";
const LOG: &str = "/run/containerd/containerd.log";
const POD_LOGS: &str = "/run/containerd/pods";

/// How long containerd may take to start on a machine that is busy with other tests: alone it takes half a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the kubelet grants RunPodSandbox: twice its `runtimeRequestTimeout`.
const TIMEOUT: Duration = Duration::from_secs(240);

/// A containerd that runs in a node.
#[derive(Debug)]
pub struct Containerd {
    node: Arc<Node>,
    process: Mutex<Child>,
    /// Connections are made and served by it, while a call goes on.
    runtime: Runtime,
    channel: Channel,
    cgroup: String,
}

impl Containerd {
    pub(crate) fn start(
        node: &Arc<Node>,
        networks: &[Network],
        cgroup: String,
    ) -> Result<Containerd, Error> {
        node.make_folder("/run/containerd")?;
        node.write(CONFIGURATION, configuration(networks))?;
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().build();
        let runtime = runtime.map_err(io("start a runtime for calls"))?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", node.path(SOCKET).display()));
        let endpoint = endpoint.map_err(|error| Error::Call {
            method: "connect",
            message: error.to_string(),
        })?;
        let channel = {
            let _inside = runtime.enter();
            endpoint.timeout(TIMEOUT).connect_lazy()
        };
        let containerd = Containerd {
            node: Arc::clone(node),
            process: Mutex::new(spawn(node)?),
            runtime,
            channel,
            cgroup,
        };
        containerd.wait_until("it does not answer", Containerd::is_ready)?;
        let mut import = node.command("ctr", "containerd")?;
        import.args(["--namespace", "k8s.io", "images", "import", image::FILE]);
        node.run(import)?;
        // The part that the kubelet talks to hears of it as an event.
        containerd.wait_until("it does not know the image", Containerd::has_image)?;
        Ok(containerd)
    }

    /// RunPodSandbox: makes the pod's network namespace, has it connected to the network, and starts the container
    /// that holds it. What fails is left as containerd leaves it.
    pub fn run_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        network: &Network,
    ) -> Result<Pod<'_>, Error> {
        let config = cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid.to_owned(),
                namespace: namespace.to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: format!("{POD_LOGS}/{namespace}_{name}_{uid}"),
            annotations: HashMap::new(),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
            }),
        };
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: network.name.clone(),
        };
        let cri::PodSandboxId { id } = self.call("RunPodSandbox", request)?;
        Ok(Pod {
            containerd: self,
            id,
            config,
        })
    }

    /// Ends containerd as an upgrade does, and starts it again. Pods stay.
    pub fn restart(&self) -> Result<(), Error> {
        {
            let mut process = self.process();
            let id = Pid::from_raw(process.id().cast_signed());
            kill(id, Signal::SIGTERM).map_err(io("stop containerd"))?;
            process.wait().map_err(io("wait for containerd"))?;
            *process = spawn(&self.node)?;
        }
        self.wait_until("it does not answer", Containerd::is_ready)
    }

    /// What is not as it should be, in the words of the kubelet's check of its runtime: nothing where all is well.
    pub fn not_ready(&self) -> Result<Vec<String>, Error> {
        let response: cri::StatusResponse = self.call("Status", cri::Empty {})?;
        let conditions = response.status.unwrap_or_default().conditions;
        let bad = conditions.into_iter().filter(|condition| !condition.status);
        let said = bad.map(|condition| format!("{}: {}", condition.kind, condition.message));
        Ok(said.collect())
    }

    fn is_ready(&self) -> Result<bool, Error> {
        Ok(self.not_ready()?.is_empty())
    }

    fn has_image(&self) -> Result<bool, Error> {
        let request = cri::ImageStatusRequest {
            image: image::spec(),
        };
        let response: cri::ImageStatusResponse = self.call("ImageStatus", request)?;
        Ok(response.image.is_some())
    }

    fn wait_until(
        &self,
        missing: &str,
        is_so: impl Fn(&Containerd) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = is_so(self);
            if let Ok(true) = answer {
                return Ok(());
            }
            let ended = self
                .process()
                .try_wait()
                .map_err(io("wait for containerd"))?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(Error::NotReady {
                    seconds: PATIENCE.as_secs(),
                    reason: answer
                        .err()
                        .map_or(missing.to_owned(), |error| error.to_string()),
                    last_words: self.last_words(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = fs::read(self.node.path(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn call<Q: Message + 'static, A: Message + Default + 'static>(
        &self,
        method: &'static str,
        request: Q,
    ) -> Result<A, Error> {
        let service = if method == "ImageStatus" {
            "Image"
        } else {
            "Runtime"
        };
        let path = format!("/runtime.v1.{service}Service/{method}");
        let answer = self.runtime.block_on(async {
            let path = PathAndQuery::try_from(path);
            let path = path.map_err(|error| Status::internal(error.to_string()))?;
            let mut client = Grpc::new(self.channel.clone());
            let ready = client.ready().await;
            ready.map_err(|error| Status::unavailable(error.to_string()))?;
            client
                .unary(Request::new(request), path, ProstCodec::default())
                .await
        });
        let answer = answer.map_err(|status| Error::Call {
            method,
            message: status.message().to_owned(),
        })?;
        Ok(answer.into_inner())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let mut process = self.process();
        let _ = process.kill();
        let _ = process.wait();
    }
}

fn spawn(node: &Node) -> Result<Child, Error> {
    let mut command = node.service("containerd", "containerd")?;
    command.args(["--config", CONFIGURATION, "--address", SOCKET]);
    let mut options = File::options();
    let log = options.create(true).append(true).open(node.path(LOG));
    let log = log.map_err(io(format!("open {LOG}")))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    node.spawn(&mut command)
}

/// One handler for each network: a pod says in which it wants to be by the handler's name. The first is the default.
fn configuration(networks: &[Network]) -> String {
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let default = networks
        .first()
        .map(|network| network.name.as_str())
        .unwrap_or_default();
    let folder = networks.first().map(Network::folder).unwrap_or_default();
    // It would make its folder for programs in the machine's /opt. In a container nobody may lower a process' score;
    // and a profile of AppArmor would be the machine's.
    let mut text = format!(
        "version = 2
[plugins.\"io.containerd.internal.v1.opt\"]
path = \"/run/containerd/opt\"
[{cri}]
sandbox_image = \"{image}\"
restrict_oom_score_adj = true
disable_apparmor = true
[{cri}.cni]
bin_dir = \"{PLUGINS}\"
conf_dir = \"{folder}\"
max_conf_num = 1
[{cri}.containerd]
default_runtime_name = \"{default}\"
",
        image = image::NAME,
    );
    for network in networks {
        text += &format!(
            "[{cri}.containerd.runtimes.\"{name}\"]
runtime_type = \"io.containerd.runc.v2\"
cni_conf_dir = \"{folder}\"
cni_max_conf_num = 1
",
            name = network.name,
            folder = network.folder(),
        );
    }
    text
}
