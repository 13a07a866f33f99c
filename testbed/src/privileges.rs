//! Becoming able to make network namespaces, without being root.

use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::error::Error;

/// Where the privileges come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// The process had them already.
    Own,
    /// The process is root in a user namespace of its own from now on.
    UserNamespace,
}

/// `capability.h`: CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN.
const NEEDED: u64 = 1 << 12 | 1 << 13 | 1 << 21;

/// Makes the process able to build testbeds: where it lacks the capabilities, it moves into a user namespace in
/// which it is root. To be called at the start of the program, as the kernel refuses this to a process with threads.
///
/// Files are accessed with the rights that the user had before.
pub fn enter() -> Result<Privileges, Error> {
    if capabilities()? & NEEDED == NEEDED {
        return Ok(Privileges::Own);
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(refused)?;
    // Without this the kernel refuses an unprivileged process to map its group (user_namespaces(7)).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))?;
    Ok(Privileges::UserNamespace)
}

/// The effective capabilities of the process.
fn capabilities() -> Result<u64, Error> {
    let path = "/proc/self/status";
    let failed = |source| Error::UserMapping { path, source };
    let status = std::fs::read_to_string(path).map_err(failed)?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let value = line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    value.ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidData)))
}

fn write(path: &'static str, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::UserMapping { path, source })
}

fn refused(errno: Errno) -> Error {
    let remedy = match errno {
        Errno::EINVAL => {
            "The process has more than one thread: call testbed::enter() first thing in main"
        }
        Errno::ENOSPC => "Run as root, or raise the limit: sysctl -w user.max_user_namespaces=1000",
        Errno::EPERM | Errno::EACCES => {
            "Run as root, or allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 (Debian), \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), or a container with --privileged"
        }
        _ => "Run as root",
    };
    Error::UserNamespace {
        source: errno.into(),
        remedy,
    }
}
