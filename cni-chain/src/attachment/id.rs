//! The names that become paths.

use std::fmt;

/// The longest container id in bytes: with an interface and an ending it is a file's name, of at most 255.
pub const LONGEST_CONTAINER_ID: usize = 200;

/// The longest interface name in bytes (`IFNAMSIZ` without its terminating zero).
const LONGEST_INTERFACE: usize = 15;

/// An interface in a container, by names that are safe in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId {
    container_id: String,
    interface: String,
}

/// What is wrong with a name or a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not `[a-zA-Z0-9][a-zA-Z0-9_.\-]*`, as CNI has it.
    #[error("container id {0:?} is not letters, digits, '_', '.' and '-' behind a letter or digit")]
    ContainerId(String),
    /// Longer than [`LONGEST_CONTAINER_ID`].
    #[error(
        "the container id has {0} bytes: at most {LONGEST_CONTAINER_ID} fit in the name of its record"
    )]
    LongContainerId(usize),
    /// No name of an interface.
    #[error(
        "interface {0:?} is not 1 to {LONGEST_INTERFACE} bytes without '/', ':' and white space, and neither '.' nor '..'"
    )]
    Interface(String),
    /// Something else.
    #[error("{field}: {value:?} {reason}")]
    Field {
        /// Of what.
        field: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl AttachmentId {
    /// Of an interface in a container.
    ///
    /// # Errors
    /// A name is not one that CNI allows, or the container id is too long.
    pub fn new(container_id: &str, interface: &str) -> Result<Self, Invalid> {
        let of_id = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !container_id.bytes().all(of_id)
            || !container_id.starts_with(|first: char| first.is_ascii_alphanumeric())
        {
            return Err(Invalid::ContainerId(container_id.to_owned()));
        }
        if container_id.len() > LONGEST_CONTAINER_ID {
            return Err(Invalid::LongContainerId(container_id.len()));
        }
        Ok(Self {
            container_id: container_id.to_owned(),
            interface: interface_name(interface)?.to_owned(),
        })
    }

    /// The container.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The interface in it.
    pub fn interface(&self) -> &str {
        &self.interface
    }
}

impl fmt::Display for AttachmentId {
    /// `CONTAINERID-IFNAME`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.container_id, self.interface)
    }
}

/// What the kernel takes as an interface's name (`dev_valid_name`), and CNI.
pub(super) fn interface_name(name: &str) -> Result<&str, Invalid> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let valid = (1..=LONGEST_INTERFACE).contains(&name.len())
        && !name.contains(odd)
        && name != "."
        && name != "..";
    if valid {
        Ok(name)
    } else {
        Err(Invalid::Interface(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_cni() {
        let long = "a".repeat(LONGEST_CONTAINER_ID);
        for (container, interface) in [
            ("a", "eth0"),
            ("8A_.-", "net1.5"),
            (&long, "a23456789012345"),
        ] {
            AttachmentId::new(container, interface).expect("valid");
        }
        for (container, interface) in [
            ("", "eth0"),
            ("-a", "eth0"),
            (".", "eth0"),
            ("a/b", "eth0"),
            ("a\0", "eth0"),
            ("ä", "eth0"),
            (&format!("{long}a"), "eth0"),
            ("a", ""),
            ("a", "."),
            ("a", ".."),
            ("a", "a/b"),
            ("a", "a:b"),
            ("a", "a b"),
            ("a", "a\0"),
            ("a", "a234567890123456"),
        ] {
            AttachmentId::new(container, interface).expect_err(container);
        }
    }
}
