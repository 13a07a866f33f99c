//! Questions as they are written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use policy_compiler::model::{Family, NamespacedName};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::source::OneLine;

/// One flow that is asked about.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
pub struct Question {
    /// The asker's name for the flow, repeated in the answer.
    pub id: Option<Id>,
    /// Its line, counted from 1, if it is from a flows file.
    #[schemars(skip)]
    pub line: Option<usize>,
    /// Who opens the connection.
    pub from: End,
    /// To whom.
    pub to: End,
    /// Over which protocol.
    pub protocol: ProtocolName,
    /// To which port; absent or 0 for ICMP.
    pub port: Option<Port>,
    /// In which family; if absent the one that both ends have, IPv4 if both.
    pub family: Option<FamilyName>,
}

impl Question {
    /// What a message calls the flow: by its id, else by its line; `flow` if it is the only one.
    pub fn name(&self) -> String {
        match (&self.id, self.line) {
            (Some(id), _) => format!("flow {id}"),
            (None, Some(line)) => format!("flow of line {line}"),
            (None, None) => "flow".to_owned(),
        }
    }
}

/// A JSON value exactly as it was written: an asker may compare bytes, and knows numbers that we do not.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "serde_json::Value")]
pub struct Id(String);

impl From<&RawValue> for Id {
    fn from(value: &RawValue) -> Self {
        Self(value.get().to_owned())
    }
}

impl From<usize> for Id {
    fn from(number: usize) -> Self {
        Self(number.to_string())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OneLine(&self.0).fmt(f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = RawValue::from_string(self.0.clone()).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

/// An end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^(pod/[^/]*/[^/]*|node/[^/]*|ip/[0-9A-Fa-f.:]+)$"))]
pub enum End {
    /// `pod/NAMESPACE/NAME`
    Pod(NamespacedName),
    /// `ip/ADDRESS`; the address of a pod or a node stands for that pod or node.
    Ip(IpAddr),
    /// `node/NAME`
    Node(String),
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        match parts.as_slice() {
            ["pod", namespace, name] => Ok(End::Pod(NamespacedName::new(*namespace, *name))),
            ["node", name] => Ok(End::Node((*name).to_owned())),
            ["ip", address] => parse_address(address)
                .map(End::Ip)
                .ok_or_else(|| format!("{text:?}: {address:?} is no IP address")),
            _ => Err(format!(
                "{text:?} is no end of a flow: write pod/NAMESPACE/NAME, node/NAME or ip/ADDRESS"
            )),
        }
    }
}

/// An address; IPv4 in its IPv6-mapped form is the IPv4 address that its packets have.
fn parse_address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical())
}

impl End {
    /// Reads an end as a person writes it: also `NAMESPACE/NAME`, `NAME` (in the given namespace) and a plain
    /// address.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse_short(text: &str, namespace: &str) -> Result<Self, String> {
        if let Ok(end) = text.parse() {
            return Ok(end);
        }
        if let Some(address) = parse_address(text) {
            return Ok(End::Ip(address));
        }
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [name] if !name.is_empty() => Ok(End::Pod(NamespacedName::new(namespace, *name))),
            [namespace, name]
                if *namespace != "ip" && !namespace.is_empty() && !name.is_empty() =>
            {
                Ok(End::Pod(NamespacedName::new(*namespace, *name)))
            }
            _ => Err(format!(
                "{text:?} is no end of a flow: write NAMESPACE/POD, node/NAME or an IP address"
            )),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Pod(id) => write!(f, "pod/{id}"),
            End::Ip(address) => write!(f, "ip/{address}"),
            End::Node(name) => write!(f, "node/{name}"),
        }
    }
}

/// A protocol that can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(rename_all = "UPPERCASE")]
pub enum ProtocolName {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP, or ICMPv6 between IPv6 addresses: an echo request.
    Icmp,
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProtocolName::Tcp => "TCP",
            ProtocolName::Udp => "UDP",
            ProtocolName::Sctp => "SCTP",
            ProtocolName::Icmp => "ICMP",
        })
    }
}

impl FromStr for ProtocolName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "TCP" => Ok(ProtocolName::Tcp),
            "UDP" => Ok(ProtocolName::Udp),
            "SCTP" => Ok(ProtocolName::Sctp),
            "ICMP" => Ok(ProtocolName::Icmp),
            _ => Err(format!(
                "{text:?} is no protocol: write tcp, udp, sctp or icmp"
            )),
        }
    }
}

/// A destination port.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Port {
    /// A number.
    Number(u16),
    /// The name of a port of the destination pod.
    Name(#[schemars(regex(pattern = "[^0-9]"))] String),
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => number.fmt(f),
            Port::Name(name) => name.fmt(f),
        }
    }
}

/// An address family as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FamilyName {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl fmt::Display for FamilyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FamilyName::Ipv4 => "IPv4",
            FamilyName::Ipv6 => "IPv6",
        })
    }
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::Ipv4 => Family::Ipv4,
            FamilyName::Ipv6 => Family::Ipv6,
        }
    }
}

/// Reads `PORT/PROTOCOL`, `PORT` (TCP) or `icmp`.
///
/// # Errors
/// What would be right.
pub fn parse_port(text: &str) -> Result<(ProtocolName, Option<Port>), String> {
    if let Ok(ProtocolName::Icmp) = text.parse() {
        return Ok((ProtocolName::Icmp, None));
    }
    let (port, protocol) = match text.split_once('/') {
        Some((port, protocol)) => (port, protocol.parse()?),
        None => (text, ProtocolName::Tcp),
    };
    let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = match port.parse() {
        Ok(number @ 1..) => Port::Number(number),
        _ if is_number || port.is_empty() => {
            return Err(format!(
                "{text:?} is no port: write a number from 1 to 65535 or a name, for example 80/tcp"
            ));
        }
        _ => Port::Name(port.to_owned()),
    };
    Ok((protocol, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_long_and_short() {
        for (text, end) in [
            ("pod/x/a", "pod/x/a"),
            ("x/a", "pod/x/a"),
            ("a", "pod/shop/a"),
            ("node/n", "node/n"),
            ("pod/node/n", "pod/node/n"),
            ("10.0.0.1", "ip/10.0.0.1"),
            ("ip/2001:db8::1", "ip/2001:db8::1"),
            ("2001:db8::1", "ip/2001:db8::1"),
            ("ip/::ffff:10.1.0.1", "ip/10.1.0.1"),
            ("::ffff:10.1.0.1", "ip/10.1.0.1"),
        ] {
            let read = End::parse_short(text, "shop").map(|end| end.to_string());
            assert_eq!(read.as_deref(), Ok(end), "{text}");
        }
        for bad in ["", "/", "x/", "ip/x", "a/b/c", "pod/a/b/c"] {
            assert!(End::parse_short(bad, "shop").is_err(), "{bad}");
        }
        assert!(
            "x/a".parse::<End>().is_err(),
            "a flows file writes ends in full"
        );
    }

    #[test]
    fn ports_are_read_with_their_protocol() {
        let number = |n| Some(Port::Number(n));
        let name = |n: &str| Some(Port::Name(n.into()));
        for (text, read) in [
            ("80", (ProtocolName::Tcp, number(80))),
            ("80/tcp", (ProtocolName::Tcp, number(80))),
            ("53/UDP", (ProtocolName::Udp, number(53))),
            ("dns/udp", (ProtocolName::Udp, name("dns"))),
            ("icmp", (ProtocolName::Icmp, None)),
        ] {
            assert_eq!(parse_port(text), Ok(read), "{text}");
        }
        for bad in ["0", "65536", "", "/tcp", "80/xyz", "80/"] {
            assert!(parse_port(bad).is_err(), "{bad}");
        }
    }
}
