//! Names of network interfaces.

use std::fmt;

/// The name of a network interface, in a form that nft's text can hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName(String);

/// Why a text is no interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no interface name: 1 to 15 ASCII letters, digits, '-', '_', '.' or '@' are accepted"
)]
pub struct InterfaceNameError(String);

impl InterfaceName {
    /// The name. The kernel accepts more (any byte but '/', ':' and white space); quotes, and the asterisk that
    /// nft reads as a wildcard, have no place in a rule.
    ///
    /// # Errors
    /// The text, if it is too long or has another character.
    pub fn new(name: &str) -> Result<Self, InterfaceNameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
        let valid = (1..=15).contains(&name.len())
            && name.bytes().all(allowed)
            && name != "."
            && name != "..";
        valid
            .then(|| Self(name.to_owned()))
            .ok_or_else(|| InterfaceNameError(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_need_no_quoting_are_accepted() {
        for good in [
            "veth0a1b2c3d",
            "cni-br0",
            "eth0.100",
            "a",
            "br_pods",
            "eth0@if3",
        ] {
            assert!(InterfaceName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "veth*",
            "a b",
            "a\"; flush ruleset",
            "a/b",
            "..",
            "sixteen-letters0",
        ] {
            assert!(InterfaceName::new(bad).is_err(), "{bad}");
        }
    }
}
