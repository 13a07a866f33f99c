//! Pods of containerd and their containers.

use std::fs;
use std::net::IpAddr;

use crate::containerd::Containerd;
use crate::cri;
use crate::error::{Error, io};
use crate::image;
use crate::output::Output;

/// A pod without containers of its own, as RunPodSandbox makes it. It is there until it is removed.
#[derive(Debug)]
pub struct Pod<'a> {
    pub(crate) containerd: &'a Containerd,
    pub(crate) id: String,
    pub(crate) config: cri::PodSandboxConfig,
}

/// A container of a pod.
#[derive(Debug)]
pub struct Container<'a> {
    containerd: &'a Containerd,
    id: String,
}

/// What containerd says of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodStatus {
    /// Whether its sandbox runs.
    pub ready: bool,
    /// Its addresses, as they are in the Pod's `status.podIPs`. There are none if it does not run.
    pub addresses: Vec<IpAddr>,
}

impl<'a> Pod<'a> {
    /// The id of its sandbox, which is `CNI_CONTAINERID`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Makes and starts a container that runs this program.
    pub fn create_container(&self, name: &str, argv: &[&str]) -> Result<Container<'a>, Error> {
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata {
                name: name.to_owned(),
            }),
            image: image::spec(),
            command: owned(argv),
            log_path: format!("{name}.log"),
        };
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let container: cri::ContainerId = self.containerd.call("CreateContainer", request)?;
        let id = container.id.clone();
        self.containerd
            .call::<_, cri::Empty>("StartContainer", container)?;
        Ok(Container {
            containerd: self.containerd,
            id,
        })
    }

    /// What its containers with this name wrote, as lines with time and stream.
    pub fn log(&self, container: &str) -> Result<String, Error> {
        let path = format!("{}/{container}.log", self.config.log_directory);
        let path = self.containerd.node().path(path);
        fs::read_to_string(&path).map_err(io(format!("read {}", path.display())))
    }

    /// PodSandboxStatus.
    pub fn status(&self) -> Result<PodStatus, Error> {
        let response: cri::PodSandboxStatusResponse =
            self.containerd.call("PodSandboxStatus", self.named())?;
        let status = response.status.unwrap_or_default();
        let network = status.network.unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|address| address.ip);
        let addresses = [network.ip].into_iter().chain(more);
        let addresses = addresses
            .filter(|address| !address.is_empty())
            .map(|address| {
                let what = "an address of a pod";
                address.parse().map_err(|_| Error::Unexpected {
                    what,
                    text: address,
                })
            });
        Ok(PodStatus {
            ready: status.state == 0,
            addresses: addresses.collect::<Result<_, _>>()?,
        })
    }

    /// StopPodSandbox: ends its containers and takes it off its network.
    pub fn stop(&self) -> Result<(), Error> {
        let cri::Empty {} = self.containerd.call("StopPodSandbox", self.named())?;
        Ok(())
    }

    /// RemovePodSandbox, which stops it first if it was not.
    pub fn remove(&self) -> Result<(), Error> {
        let cri::Empty {} = self.containerd.call("RemovePodSandbox", self.named())?;
        Ok(())
    }

    fn named(&self) -> cri::PodSandboxId {
        cri::PodSandboxId {
            id: self.id.clone(),
        }
    }
}

impl Container<'_> {
    /// ExecSync: runs a program in the container to its end.
    pub fn exec(&self, argv: &[&str]) -> Result<Output, Error> {
        let request = cri::ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: owned(argv),
            timeout: 60,
        };
        let response: cri::ExecSyncResponse = self.containerd.call("ExecSync", request)?;
        Ok(Output {
            code: response.exit_code,
            stdout: String::from_utf8_lossy(&response.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&response.stderr).into_owned(),
        })
    }
}

fn owned(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&argument| argument.to_owned()).collect()
}
