//! A network configuration as text, with our entry and without it. Nothing else of the text changes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use serde_json::Value;

use super::json::{Object, elements, range};
use crate::entry::{Entry, TYPE};
use crate::version::Version;

const VERSION_REMEDY: &str = "let the plugin that writes the file write one of them";

/// The types that call the plugins of another network.
const MULTUS: [&str; 2] = ["multus", "multus-shim"];

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No runtime can read it. containerd is not ready then, whatever the files behind it say; CRI-O takes the next.
    #[error("{field}: {problem}")]
    Unreadable {
        /// Where.
        field: String,
        /// What.
        problem: String,
    },
    /// A runtime can read it, but our entry can not be in it.
    #[error("{field}: {problem}")]
    Refused {
        /// Where.
        field: String,
        /// What, and what to do.
        problem: String,
    },
}

/// How runtimes read a file, which its ending says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `.conflist`
    List,
    /// `.conf` and `.json`
    Single,
}

/// What a configuration is.
#[derive(Debug)]
pub(super) enum Shape<'a> {
    /// A list of plugins.
    List(List<'a>),
    /// One plugin, which runtimes take as a list of one.
    Single(Single<'a>),
    /// The plugins are in another file.
    Elsewhere(PathBuf),
}

/// A list of plugins in a text.
#[derive(Debug)]
pub(super) struct List<'a> {
    text: &'a str,
    /// The field of the list, for messages.
    field: &'static str,
    version: Result<(), Fault>,
    plugins: Vec<Plugin>,
}

#[derive(Debug)]
struct Plugin {
    at: Range<usize>,
    value: Value,
}

impl Plugin {
    fn is_ours(&self) -> bool {
        self.value["type"] == TYPE
    }
}

/// One plugin.
#[derive(Debug)]
pub(super) struct Single<'a> {
    text: &'a str,
    name: &'a str,
    version: Result<&'a str, Fault>,
}

/// Reads what a runtime would.
pub(super) fn read(kind: Kind, text: &str) -> Result<Shape<'_>, Fault> {
    let object = object(text, "the file")?;
    match kind {
        Kind::List => {
            required_string(&object, "name")?;
            let list = list(text, &object, "plugins", Fault::unreadable)?;
            match list.plugins.first() {
                Some(first) if MULTUS.iter().any(|name| first.value["type"] == *name) => {
                    let at = first.at.clone();
                    multus(text, &text[at])
                }
                _ => Ok(Shape::List(list)),
            }
        }
        Kind::Single => {
            let plugin_type = required_string(&object, "type")?;
            if MULTUS.contains(&plugin_type.as_str()) {
                return multus(text, text);
            }
            required_string(&object, "name")?;
            Ok(Shape::Single(Single {
                text,
                name: member(&object, "name")?.unwrap_or_default(),
                version: single_version(&object),
            }))
        }
    }
}

/// Multus' first delegate, or the file of its cluster network, which goes before delegates.
fn multus<'a>(text: &'a str, multus: &'a str) -> Result<Shape<'a>, Fault> {
    const REMEDY: &str = "name the file of the network that multus calls with --cni-conf-name, if it is in the same folder";
    let outer = object(multus, "the file")?;
    if let Some(network) = string(&outer, "clusterNetwork")?.filter(|name| !name.is_empty()) {
        let path = PathBuf::from(&network);
        if path.is_absolute() && path.extension().is_some() {
            return Ok(Shape::Elsewhere(path));
        }
        let problem = format!("{network:?} is not the path of a file: {REMEDY}");
        return Err(Fault::refused("clusterNetwork", problem));
    }
    let Some(delegates) = member(&outer, "delegates")? else {
        let problem = format!("neither they nor a clusterNetwork are there: {REMEDY}");
        return Err(Fault::refused("delegates", problem));
    };
    let delegates = elements(delegates)
        .map_err(|_| Fault::refused("delegates", "are not an array".to_owned()))?;
    let Some(first) = delegates.first() else {
        let problem = format!("are empty: {REMEDY}");
        return Err(Fault::refused("delegates", problem));
    };
    let delegate = object(first, "delegates[0]").map_err(Fault::into_refused)?;
    let mut list = list(text, &delegate, "delegates[0].plugins", Fault::refused)?;
    if member(&delegate, "cniVersion")?.is_none() && member(&delegate, "cniVersions")?.is_none() {
        list.version = versions(&outer);
    }
    Ok(Shape::List(list))
}

fn list<'a>(
    text: &'a str,
    object: &Object<'a>,
    field: &'static str,
    fault: fn(&str, String) -> Fault,
) -> Result<List<'a>, Fault> {
    let Some(array) = member(object, "plugins")? else {
        return Err(fault(
            field,
            "are not there: a list of plugins has them".to_owned(),
        ));
    };
    let elements = elements(array).map_err(|_| fault(field, "are not an array".to_owned()))?;
    if elements.is_empty() {
        return Err(fault(field, "are empty".to_owned()));
    }
    let mut plugins = Vec::new();
    for (index, element) in elements.into_iter().enumerate() {
        let field = format!("{field}[{index}]");
        let value: Value =
            serde_json::from_str(element).map_err(|error| fault(&field, error.to_string()))?;
        if !value.is_object() {
            return Err(fault(&field, "is not an object".to_owned()));
        }
        if value["type"].as_str().is_none_or(str::is_empty) {
            return Err(fault(&format!("{field}.type"), "is no name".to_owned()));
        }
        let at = range(text, element);
        plugins.push(Plugin { at, value });
    }
    Ok(List {
        text,
        field,
        version: versions(object),
        plugins,
    })
}

impl List<'_> {
    /// Whether our entry is there, whatever it says.
    pub(super) fn has_ours(&self) -> bool {
        self.plugins.iter().any(Plugin::is_ours)
    }

    /// What of our entry is not as wanted: it is there once, as the last, and says this.
    pub(super) fn problem(&self, entry: &Entry) -> Option<String> {
        let ours: Vec<_> = self.plugins.iter().filter(|of| of.is_ours()).collect();
        let [ours] = ours[..] else {
            let problem = match ours.len() {
                0 => "the entry is not there",
                _ => "the entry is there more than once",
            };
            return Some(problem.to_owned());
        };
        if self.plugins.len() == 1 {
            return Some("there is only the entry, and no plugin before it".to_owned());
        }
        if !self.plugins.last().is_some_and(Plugin::is_ours) {
            return Some("the entry is not the last".to_owned());
        }
        let (there, wanted) = (ours.value.as_object()?, entry.value());
        let wanted = wanted.as_object()?;
        let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
        let keys: BTreeSet<_> = there.keys().chain(wanted.keys()).collect();
        let other = keys.into_iter().filter_map(|key| {
            let (is, should) = (there.get(key), wanted.get(key));
            (is != should).then(|| format!("{key} is {} and not {}", text(is), text(should)))
        });
        let other: Vec<_> = other.collect();
        (!other.is_empty()).then(|| format!("of the entry, {}", other.join(", ")))
    }

    /// The plugins of others.
    pub(super) fn others(&self) -> impl Iterator<Item = &Value> {
        let others = self.plugins.iter().filter(|of| !of.is_ours());
        others.map(|of| &of.value)
    }

    /// The text with our entry once, at the end; nothing if it is so.
    pub(super) fn with(&self, entry: &Entry) -> Result<Option<String>, Fault> {
        self.version.clone()?;
        if self.problem(entry).is_none() {
            return Ok(None);
        }
        Ok(Some(self.rebuilt(Some(entry))?))
    }

    /// The text without our entry; nothing if it has none.
    pub(super) fn without(&self) -> Result<Option<String>, Fault> {
        if !self.has_ours() {
            return Ok(None);
        }
        Ok(Some(self.rebuilt(None)?))
    }

    /// Others' plugins with what stands before each of them, and then ours.
    fn rebuilt(&self, entry: Option<&Entry>) -> Result<String, Fault> {
        let (Some(first), Some(last)) = (self.plugins.first(), self.plugins.last()) else {
            return Err(Fault::refused(self.field, "are empty".to_owned()));
        };
        let mut out = self.text[..first.at.start].to_owned();
        let lead = self.lead();
        let mut before = None;
        let mut separator = format!(",{lead}");
        let mut any = false;
        for plugin in &self.plugins {
            if let Some(before) = before {
                separator = self.text[before..plugin.at.start].to_owned();
            }
            before = Some(plugin.at.end);
            if plugin.is_ours() {
                continue;
            }
            if any {
                out.push_str(&separator);
            }
            out.push_str(&self.text[plugin.at.clone()]);
            any = true;
        }
        if !any {
            let problem = "are ours alone, and can not work: remove the file, or write the main plugin into it";
            return Err(Fault::refused(self.field, problem.to_owned()));
        }
        if let Some(entry) = entry {
            out.push(',');
            out.push_str(lead);
            out.push_str(&rendered(entry, lead, self.unit()));
        }
        out.push_str(&self.text[last.at.end..]);
        Ok(out)
    }

    /// The white space before the first plugin.
    fn lead(&self) -> &str {
        let start = self.plugins.first().map_or(0, |first| first.at.start);
        let before = &self.text[..start];
        &before[before.trim_end_matches([' ', '\t', '\n', '\r']).len()..]
    }

    /// By how much a level is indented: a plugin's member more than the plugin, if that is so, else two spaces.
    fn unit(&self) -> &str {
        let others = self.plugins.iter().filter(|of| !of.is_ours());
        let texts = others.map(|of| self.text[of.at.clone()].trim_start_matches('{'));
        let outer = indentation(self.lead()).unwrap_or_default();
        let mut units = texts.filter_map(|text| {
            let white = &text[..text.len() - text.trim_start().len()];
            indentation(white)?.strip_prefix(outer)
        });
        units.find(|unit| !unit.is_empty()).unwrap_or("  ")
    }
}

impl Single<'_> {
    /// A list with this plugin and ours, as runtimes make a list of one plugin themselves.
    pub(super) fn wrapped(&self, entry: &Entry) -> Result<String, Fault> {
        let version = self.version.clone()?;
        let plugin = self.text.trim().replace('\n', "\n    ");
        let ours = rendered(entry, "\n    ", "  ");
        let name = self.name;
        Ok(format!(
            "{{\n  \"cniVersion\": {version},\n  \"name\": {name},\n  \"plugins\": [\n    {plugin},\n    {ours}\n  ]\n}}\n"
        ))
    }

    /// What it says.
    #[cfg(test)]
    pub(super) fn value(&self) -> Option<Value> {
        serde_json::from_str(self.text).ok()
    }
}

/// What is behind the last line's end.
fn indentation(white: &str) -> Option<&str> {
    white.rsplit_once('\n').map(|(_, indentation)| indentation)
}

/// Our entry, on one line if others are.
fn rendered(entry: &Entry, lead: &str, unit: &str) -> String {
    let members = entry.members().into_iter();
    let Some(outer) = indentation(lead) else {
        let members = members.map(|(key, value)| format!("\"{key}\":{value}"));
        return format!("{{{}}}", members.collect::<Vec<_>>().join(","));
    };
    let members = members.map(|(key, value)| format!("\n{outer}{unit}\"{key}\": {value}"));
    format!("{{{}\n{outer}}}", members.collect::<Vec<_>>().join(","))
}

/// The version that a runtime would take is one that our plugin speaks.
fn versions(object: &Object<'_>) -> Result<(), Fault> {
    let one = string(object, "cniVersion")?;
    let several = member(object, "cniVersions")?;
    let several: Vec<String> = several.map_or(Ok(Vec::new()), |text| {
        let read = serde_json::from_str(text);
        read.map_err(|_| Fault::refused("cniVersions", "is no array of strings".to_owned()))
    })?;
    // libcni before 1.2 takes the one, and later ones the highest of all.
    let highest = several.iter().max_by_key(|text| numbers(text)).cloned();
    if one.is_none() && highest.is_none() {
        let problem = format!("is not there, which means 0.1.0: {VERSION_REMEDY}");
        return Err(Fault::refused("cniVersion", problem));
    }
    for (field, version) in [("cniVersion", one), ("cniVersions", highest)] {
        if let Some(version) = version.filter(|version| Version::parse(version).is_none()) {
            let all = Version::ALL.map(Version::text);
            let problem = format!("{version:?} is none of {all:?}: {VERSION_REMEDY}");
            return Err(Fault::refused(field, problem));
        }
    }
    Ok(())
}

fn single_version<'a>(object: &Object<'a>) -> Result<&'a str, Fault> {
    versions(object)?;
    let version = member(object, "cniVersion")?;
    version.ok_or_else(|| Fault::refused("cniVersion", "is not there".to_owned()))
}

/// A version's numbers, in which versions are compared.
fn numbers(version: &str) -> Vec<u32> {
    let numbers = version.split('.').map(str::parse);
    numbers.map(Result::unwrap_or_default).collect()
}

fn object<'a>(text: &'a str, field: &str) -> Result<Object<'a>, Fault> {
    Object::read(text).map_err(|error| {
        let problem = match error.classify() {
            serde_json::error::Category::Data => "is not an object".to_owned(),
            _ => format!("is not JSON: {error}"),
        };
        Fault::unreadable(field, problem)
    })
}

fn member<'a>(object: &Object<'a>, key: &str) -> Result<Option<&'a str>, Fault> {
    let member = object.get(key);
    member.map_err(|_| Fault::refused(key, "is there more than once".to_owned()))
}

fn string(object: &Object<'_>, key: &str) -> Result<Option<String>, Fault> {
    let Some(text) = member(object, key)? else {
        return Ok(None);
    };
    let read = serde_json::from_str(text);
    read.map(Some)
        .map_err(|_| Fault::unreadable(key, format!("{text} is not a string")))
}

fn required_string(object: &Object<'_>, key: &str) -> Result<String, Fault> {
    let string = string(object, key)?;
    string
        .filter(|string| !string.is_empty())
        .ok_or_else(|| Fault::unreadable(key, "is not there".to_owned()))
}

impl Fault {
    fn unreadable(field: &str, problem: String) -> Self {
        let field = field.to_owned();
        Self::Unreadable { field, problem }
    }

    pub(super) fn refused(field: &str, problem: String) -> Self {
        let field = field.to_owned();
        Self::Refused { field, problem }
    }

    fn into_refused(self) -> Self {
        match self {
            Self::Unreadable { field, problem } | Self::Refused { field, problem } => {
                Self::Refused { field, problem }
            }
        }
    }
}

#[cfg(test)]
#[path = "conflist_tests.rs"]
mod tests;
