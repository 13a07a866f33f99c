//! That one agent at most has a network namespace: two would undo what the other does, whatever their directories are.
//!
//! It is the name of an abstract unix socket (unix(7)): there is one of each in a network namespace, and it goes with the
//! process, however that ends. Any program in the namespace may take the name. So the name alone refuses nobody: only one
//! that root or our own user has does.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
};

use super::rundir::own_uid;

/// The socket's name.
const NAME: &str = "picket-agent";
/// How often whoever has the name is asked who it is, and how long after each other: another agent may have bound it and
/// not listen yet.
const ATTEMPTS: (usize, Duration) = (10, Duration::from_millis(10));

/// Held for as long as this lives.
#[derive(Debug)]
pub struct Alone {
    /// None if somebody who is no agent has the name.
    _listener: Option<UnixListener>,
}

/// Another agent, or `picket cleanup`, has this network namespace.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// It runs.
    #[error(
        "another agent or cleanup (process {pid}) has this network namespace: stop it first, whatever its --run-dir is"
    )]
    Held {
        /// Its process; 0 if it is in another PID namespace.
        pid: i32,
    },
    /// It is not known.
    #[error("whether another agent has this network namespace cannot be known: {0}")]
    Unknown(#[from] io::Error),
}

impl Alone {
    /// Takes the network namespace of the calling thread.
    ///
    /// # Errors
    /// Another agent has it, or that cannot be known.
    pub fn take() -> Result<Self, AloneError> {
        Self::take_name(NAME)
    }

    fn take_name(name: &str) -> Result<Self, AloneError> {
        let address = SocketAddr::from_abstract_name(name)?;
        let (attempts, pause) = ATTEMPTS;
        let mut last = None;
        for _ in 0..attempts {
            match UnixListener::bind_addr(&address) {
                Ok(listener) => {
                    return Ok(Self {
                        _listener: Some(listener),
                    });
                }
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(error.into()),
                Err(_) => {}
            }
            match holder(name) {
                Ok((uid, pid)) if uid == 0 || uid == own_uid()? => {
                    return Err(AloneError::Held { pid });
                }
                Ok((uid, _)) => {
                    last = Some(format!("user {uid}"));
                    break;
                }
                Err(errno) => last = Some(format!("somebody who cannot be asked ({errno})")),
            }
            thread::sleep(pause);
        }
        let who = last.unwrap_or_default();
        tracing::error!(
            "{who} has the name of the agent's socket @{name}, and is no agent: find it with ss -xlp and stop it; meanwhile a second agent would not be refused"
        );
        Ok(Self { _listener: None })
    }
}

/// User and process of who listens there. Nothing waits for it.
fn holder(name: &str) -> Result<(u32, i32), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(
        socket.as_raw_fd(),
        &UnixAddr::new_abstract(name.as_bytes())?,
    )?;
    let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok((peer.uid(), peer.pid()))
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::bind;

    use super::*;

    fn name(of: &str) -> String {
        format!("picket-test-{of}-{}", std::process::id())
    }

    #[test]
    fn a_second_agent_of_a_network_namespace_is_refused_until_the_first_ends() {
        let name = name("second");
        let first = Alone::take_name(&name).expect("nobody has it");
        for _ in 0..20 {
            let error = Alone::take_name(&name).expect_err("somebody has it");
            let AloneError::Held { pid } = error else {
                panic!("{error}");
            };
            assert_eq!(pid.unsigned_abs(), std::process::id());
        }
        drop(first);
        Alone::take_name(&name).expect("nobody has it any more");
    }

    #[test]
    fn whoever_only_has_the_name_keeps_no_agent_from_starting() {
        let name = name("squatter");
        let flags = SockFlag::SOCK_CLOEXEC;
        let squatter = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("made");
        let address = UnixAddr::new_abstract(name.as_bytes()).expect("a name");
        bind(squatter.as_raw_fd(), &address).expect("nobody has it");
        let taken = Alone::take_name(&name).expect("it goes on");
        assert!(taken._listener.is_none());
    }
}
