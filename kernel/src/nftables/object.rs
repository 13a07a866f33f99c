//! What the kernel holds, as a refusal names it.

use std::fmt;

use policy_compiler::ruleset::{TABLE, TableFamily, Value};

/// An object of one of our tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// `table inet picket`
    Table(TableFamily),
    /// A chain.
    Chain {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: String,
    },
    /// A rule.
    Rule {
        /// Its table.
        family: TableFamily,
        /// Its chain.
        chain: String,
        /// Its position among the chain's rules, or among those of the same request, from 0, where it is known.
        index: Option<usize>,
        /// Its comment.
        comment: Option<String>,
    },
    /// A counter with a name.
    Counter {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: String,
    },
    /// A set.
    Set {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: String,
    },
    /// A verdict map.
    Map {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: String,
    },
    /// An element of a set or a map.
    Element {
        /// The table.
        family: TableFamily,
        /// The name of the set or the map.
        set: String,
        /// The element's key; nothing if it could not be told which of the request it was.
        key: Option<Vec<Value>>,
    },
    /// Something else, by what the kernel calls it.
    Other(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(family) => write!(f, "table {} {TABLE}", family_name(*family)),
            Self::Chain { family, name } => write!(f, "chain {}", Path(*family, name)),
            Self::Rule {
                family,
                chain,
                index,
                comment,
            } => {
                match index {
                    Some(index) => write!(f, "rule {}", index + 1)?,
                    None => f.write_str("a rule")?,
                }
                write!(f, " of chain {}", Path(*family, chain))?;
                comment
                    .as_ref()
                    .map_or(Ok(()), |comment| write!(f, " ({comment:?})"))
            }
            Self::Counter { family, name } => write!(f, "counter {}", Path(*family, name)),
            Self::Set { family, name } => write!(f, "set {}", Path(*family, name)),
            Self::Map { family, name } => write!(f, "map {}", Path(*family, name)),
            Self::Element { family, set, key } => {
                match key {
                    Some(key) => write!(f, "element {}", Key(key))?,
                    None => f.write_str("elements")?,
                }
                write!(f, " of {}", Path(*family, set))
            }
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// `inet picket egress`
struct Path<'a>(TableFamily, &'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {TABLE} {}", family_name(self.0), self.1)
    }
}

/// `10.0.0.1 . tcp . 80`
struct Key<'a>(&'a [Value]);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" . ")?;
            }
            match value {
                Value::Address(address) => address.fmt(f)?,
                Value::Network(network) => network.fmt(f)?,
                Value::Addresses(range) => range.fmt(f)?,
                Value::Protocol(protocol) => f.write_str(protocol.nft_name())?,
                Value::Ports(ports) => ports.fmt(f)?,
                Value::Number(number) => number.fmt(f)?,
                Value::Symbol(symbol) => f.write_str(symbol)?,
                Value::Interface(name) => write!(f, "{name:?}")?,
            }
        }
        Ok(())
    }
}

fn family_name(family: TableFamily) -> &'static str {
    match family {
        TableFamily::Inet => "inet",
        TableFamily::Bridge => "bridge",
        TableFamily::Netdev => "netdev",
    }
}
