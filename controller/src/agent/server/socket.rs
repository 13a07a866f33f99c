//! The socket of `picket status`, `picket dump` and `picket explain --live`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{self, Duration};

use super::answer::answer;
use super::bounded::Bounded;
use super::protocol::{MAX_REQUEST, Response};
use super::{Server, open};
use crate::agent::rundir::own_uid;

/// Connections at once.
const CONNECTIONS: usize = 16;

/// Time for the next request of a connection.
const IDLE: Duration = Duration::from_secs(10);

/// Time until an answer is made and taken.
const ANSWER: Duration = Duration::from_secs(60);

/// After an error of accept(2), as without free file descriptors: long enough not to spin.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that is ours: its file goes with it.
struct Bound {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Bound {
    fn drop(&mut self) {
        // The next agent replaces what is left.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers as long as there is a server; tries again if there can be no socket.
pub(super) async fn serve(app: &Arc<Server>) {
    let path = &app.socket;
    let what = format!("the socket {}", path.display());
    let remedy = "picket status, dump and explain --live need it";
    let bound = open(&what, remedy, || async { bind(path) }).await;
    let mut connections = Bounded::new(CONNECTIONS);
    loop {
        match bound.listener.accept().await {
            Ok((stream, _)) => connections.spawn(connection(app.clone(), stream)),
            Err(_) => time::sleep(PAUSE).await,
        }
    }
}

/// Listens at the path, in place of a socket at which nobody listens any more.
fn bind(path: &Path) -> io::Result<Bound> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    match std::os::unix::net::UnixStream::connect(path) {
        // The directory is ours, and yet somebody is there: an agent that was not asked to hold it.
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket => {
            fs::remove_file(path)?;
        }
        // Nothing is there, or something else, which is not ours to remove: then bind says so.
        Err(_) => {}
    }
    let bound = Bound {
        listener: UnixListener::bind(path)?,
        path: path.to_owned(),
    };
    // The directory lets nobody else in until then.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(bound)
}

/// Whether a user may ask: root, and who runs the agent.
fn may_ask(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

async fn connection(app: Arc<Server>, stream: UnixStream) {
    let (peer, own) = match (stream.peer_cred(), own_uid()) {
        (Ok(peer), Ok(own)) => (peer.uid(), own),
        _ => return,
    };
    let (input, mut output) = stream.into_split();
    if !may_ask(peer, own) {
        let why = format!("user {peer} may not ask: be root, or user {own}");
        write(&mut output, &Err(why).into()).await;
        return;
    }
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut input).take(MAX_REQUEST as u64 + 1);
        match time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await {
            Ok(Ok(1..)) => {}
            // Too late, gone, or at its end.
            _ => return,
        }
        if line.len() > MAX_REQUEST {
            let why = format!("a request has at most {MAX_REQUEST} bytes");
            write(&mut output, &Err(why).into()).await;
            return;
        }
        let (snapshot, revoked, dump) = (app.snapshot(), app.revoked(), app.dump);
        // Elsewhere: a dump of a large cluster must not delay others.
        let made = tokio::task::spawn_blocking(move || answer(&snapshot, &revoked, dump, &line));
        let Ok(Ok(answered)) = time::timeout(ANSWER, made).await else {
            return;
        };
        if !write(&mut output, &answered.into()).await {
            return;
        }
    }
}

/// Whether the answer was taken.
async fn write(output: &mut (impl AsyncWriteExt + Unpin), response: &Response) -> bool {
    let Ok(mut line) = serde_json::to_vec(response) else {
        return false;
    };
    line.push(b'\n');
    let written = time::timeout(ANSWER, output.write_all(&line)).await;
    matches!(written, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_agents_own_user_may_ask() {
        assert!(may_ask(0, 0) && may_ask(0, 1000) && may_ask(1000, 1000));
        assert!(!may_ask(1000, 0) && !may_ask(1001, 1000));
    }
}
