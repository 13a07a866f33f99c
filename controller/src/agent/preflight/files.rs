//! What `/proc` says of the network namespace of the calling thread: `/proc/net` would be that of the process.

use std::fs;

/// A file below `net`, if it is there and can be read.
pub(super) fn net(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/thread-self/net/{name}")).ok()
}

/// A setting below `/proc/sys/net`, if it is there and is a number. The kernel has that folder for the namespace of
/// whoever opens a file in it.
pub(super) fn setting(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
    text.trim().parse().ok()
}
