//! Credential plugins: programs that a kubeconfig names, which say as whom the API server is asked
//! (`client.authentication.k8s.io`).
//!
//! kube runs them too, but on the thread that asks, and waits for them for ever. So none of it is left to kube: a plugin
//! is run here, for a bounded time, and what it gives is what kube is told.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::config::{AuthInfo, ExecAuthCluster, ExecConfig, ExecInteractiveMode, Kubeconfig};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, copy, sink};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{sleep, timeout};

/// A plugin that has not ended by then is ended.
const MOST: Duration = Duration::from_secs(30);

/// So much of what it writes is read.
const ANSWER: u64 = 1 << 20;

/// So much of what it complains of is told.
const COMPLAINT: u64 = 1000;

/// The program that says who a user is.
#[derive(Debug)]
pub(super) struct Plugin {
    user: String,
    exec: ExecConfig,
}

/// What is wrong with a plugin, with the user that it is of and its command.
#[derive(Debug, thiserror::Error)]
#[error("user {user}: the credential plugin {command}: {cause}")]
pub(super) struct PluginError {
    user: String,
    command: String,
    cause: String,
}

#[derive(Deserialize)]
struct Answer {
    status: Option<Credentials>,
}

/// What a plugin gave.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Credentials {
    expiration_timestamp: Option<Timestamp>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    /// Takes the plugin of the context's user out of the kubeconfig, if it has one that counts.
    pub(super) fn take(kubeconfig: &mut Kubeconfig, context: Option<&str>) -> Option<Self> {
        let name = context.or(kubeconfig.current_context.as_deref())?;
        let mut contexts = kubeconfig.contexts.iter();
        let context = contexts
            .find(|named| named.name == name)?
            .context
            .as_ref()?;
        let (user, cluster) = (context.user.clone()?, &context.cluster);
        let mut clusters = kubeconfig.clusters.iter();
        let cluster = clusters.find(|named| named.name == *cluster);
        let cluster = cluster.and_then(|named| named.cluster.as_ref());
        let cluster = cluster.and_then(|cluster| ExecAuthCluster::try_from(cluster).ok());
        let mut infos = kubeconfig.auth_infos.iter_mut();
        let info = infos.find(|named| named.name == user)?.auth_info.as_mut()?;
        let mut exec = info.exec.take()?;
        // As in client-go: who has a token needs none.
        if info.token.is_some() || info.token_file.is_some() {
            return None;
        }
        exec.cluster = cluster.filter(|_| exec.provide_cluster_info);
        Some(Self { user, exec })
    }

    /// Runs it, gives the kubeconfig's user what it said, and says until when that holds.
    pub(super) async fn run(
        &self,
        kubeconfig: &mut Kubeconfig,
    ) -> Result<Option<Timestamp>, PluginError> {
        let credentials = self.ask().await.map_err(|cause| PluginError {
            user: self.user.clone(),
            command: self.exec.command.clone().unwrap_or_default(),
            cause,
        })?;
        let mut infos = kubeconfig.auth_infos.iter_mut();
        let info = infos.find(|named| named.name == self.user);
        if let Some(info) = info.and_then(|named| named.auth_info.as_mut()) {
            credentials.give(info);
        }
        Ok(credentials.expiration_timestamp)
    }

    async fn ask(&self) -> Result<Credentials, String> {
        let mut process = self.start()?;
        let end = timeout(MOST, process.end()).await;
        let end = end.map_err(|_| format!("it has not ended within {} seconds", MOST.as_secs()))?;
        let (status, answer, complaint) = end.map_err(|error| error.to_string())?;
        if !status.success() {
            let complaint = String::from_utf8_lossy(&complaint);
            let complaint = complaint.trim().replace(char::is_control, " ");
            return Err(format!("{status}: {complaint}"));
        }
        // It may be a secret: of an answer that cannot be read only the place is told.
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("what it wrote is no ExecCredential (line {line}, column {column})")
        })?;
        let credentials = answer.status.unwrap_or_default();
        match credentials.is_complete() {
            true => Ok(credentials),
            false => Err("it gave neither a token nor a certificate with its key".to_owned()),
        }
    }

    fn start(&self) -> Result<Process, String> {
        let exec = &self.exec;
        if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
            return Err("it asks a person (interactiveMode Always), and here is none".to_owned());
        }
        let spec = match &exec.cluster {
            Some(cluster) => json!({"interactive": false, "cluster": cluster}),
            None => json!({"interactive": false}),
        };
        let info = json!({
            "apiVersion": exec.api_version,
            "kind": "ExecCredential",
            "spec": spec,
        });
        let command = exec.command.as_ref().ok_or("it has no command")?;
        let mut command = Command::new(command);
        command.args(exec.args.iter().flatten());
        for variable in exec.env.iter().flatten() {
            if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
                command.env(name, value);
            }
        }
        command.env("KUBERNETES_EXEC_INFO", info.to_string());
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // So that what it starts ends with it.
        command.process_group(0);
        let child = command.spawn().map_err(|error| error.to_string());
        Process::new(child?).map_err(|error| error.to_string())
    }
}

impl Credentials {
    fn is_complete(&self) -> bool {
        let has_certificate =
            self.client_certificate_data.is_some() && self.client_key_data.is_some();
        self.token.is_some() || has_certificate
    }

    fn give(&self, info: &mut AuthInfo) {
        info.token = self.token.clone().map(Into::into);
        if let (Some(certificate), Some(key)) =
            (&self.client_certificate_data, &self.client_key_data)
        {
            info.client_certificate_data = Some(base64(certificate));
            info.client_key_data = Some(base64(key).into());
        }
    }
}

/// A kubeconfig has PEM in base64, and a plugin has it as it is.
fn base64(text: &str) -> String {
    let bytes = serde_json::to_value(ByteString(text.as_bytes().to_vec()));
    match bytes {
        Ok(Value::String(text)) => text,
        // Bytes are text in JSON.
        _ => String::new(),
    }
}

/// A plugin that runs. It ends with this value at the latest.
struct Process {
    child: Child,
    answer: Receiver,
    complaint: Receiver,
}

impl Process {
    fn new(mut child: Child) -> io::Result<Self> {
        let pipe = |end: Option<OwnedFd>| {
            let end = end.ok_or(io::ErrorKind::BrokenPipe)?;
            Receiver::from_owned_fd(end)
        };
        let answer = pipe(child.stdout.take().map(OwnedFd::from))?;
        let complaint = pipe(child.stderr.take().map(OwnedFd::from))?;
        Ok(Self {
            child,
            answer,
            complaint,
        })
    }

    /// How it ended, and what it wrote.
    async fn end(&mut self) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let (answer, complaint) = tokio::try_join!(
            beginning(&mut self.answer, ANSWER),
            beginning(&mut self.complaint, COMPLAINT),
        )?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, answer, complaint));
            }
            // Between the end of its pipes and its own.
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What is written first; the rest is let go.
async fn beginning(pipe: &mut Receiver, most: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    (&mut *pipe).take(most).read_to_end(&mut text).await?;
    copy(pipe, &mut sink()).await?;
    Ok(text)
}

impl Drop for Process {
    fn drop(&mut self) {
        // If it has ended, its number may be another's.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(
                Pid::from_raw(self.child.id().cast_signed()),
                Signal::SIGKILL,
            );
            let _ = self.child.wait();
        }
    }
}
