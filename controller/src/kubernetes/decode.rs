//! One object, or what is wrong with it.

use std::borrow::Cow;

use policy_compiler::api;
use policy_compiler::index::{Interner, Object, ObjectId};
use policy_compiler::validate::{self, FieldError, Options};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::stand_in;
use super::{Error, Refusal, Resource};

/// One object as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What names it.
    pub id: ObjectId,
    /// What tells it from others that had or will have its name.
    pub uid: Option<String>,
    /// Its version, if it has one.
    pub version: Option<String>,
    /// The object, if it is valid.
    pub read: Result<Object, Bad>,
}

impl Item {
    /// The same, with values that others have too: many pods are listed before an index has them.
    #[must_use]
    pub fn interned(mut self, interner: &mut Interner) -> Self {
        self.read = self.read.map(|object| interner.object(object));
        self
    }
}

/// An object that cannot be read, or that the API server should have refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Bad {
    /// The fields and what is wrong with them, a line each.
    pub message: String,
    /// What stands for it until it is valid, if it never was: it opens nothing.
    pub stand_in: Option<Object>,
    /// What that means, a sentence.
    pub effect: &'static str,
}

/// One line of a watch.
#[derive(Debug)]
pub enum Line {
    /// An object is there, as it is now.
    Applied(Box<Item>),
    /// An object is gone, or is none of those that are watched any more.
    Deleted(ObjectId, Option<String>),
    /// All up to this version was told.
    Bookmark {
        /// The version.
        version: String,
        /// Whether it ends the list that a watch began with.
        ends_list: bool,
    },
    /// The watch is over.
    Refused(Refusal),
    /// An object that does not even say its name.
    Nameless(String),
}

#[derive(Deserialize)]
struct Event<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

/// What is read of an object whatever else it says.
struct Named {
    id: ObjectId,
    uid: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Reads a line of a watch.
///
/// # Errors
/// It is no event: the answer is damaged, and the watch has to begin anew.
pub fn line(resource: Resource, bytes: &[u8], options: Options) -> Result<Line, Error> {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    let unreadable = |error: serde_json::Error| Error::Unreadable(error.to_string());
    let event: Event<'_> = serde_json::from_str(&text).map_err(unreadable)?;
    let object = event.object.get();
    match event.r#type.as_str() {
        "ADDED" | "MODIFIED" => Ok(match item(resource, object, options) {
            Ok(item) => Line::Applied(Box::new(item)),
            Err(wrong) => Line::Nameless(wrong),
        }),
        "DELETED" => Ok(match head(resource, object) {
            Ok(named) => Line::Deleted(named.id, named.version),
            Err(wrong) => Line::Nameless(wrong),
        }),
        "BOOKMARK" => {
            let bookmark: Bookmark = serde_json::from_str(object).map_err(unreadable)?;
            let annotations = bookmark.metadata.annotations.unwrap_or_default();
            let ends = annotations.get("k8s.io/initial-events-end");
            Ok(Line::Bookmark {
                version: bookmark.metadata.resource_version,
                ends_list: ends.is_some_and(|ends| ends == "true"),
            })
        }
        "ERROR" => Ok(Line::Refused(Refusal::read(0, None, object.as_bytes()))),
        other => Err(Error::Unreadable(format!("there is no event {other:?}"))),
    }
}

fn head(resource: Resource, raw: &str) -> Result<Named, String> {
    let head: Head = serde_json::from_str(raw)
        .map_err(|error| format!("an object has no readable metadata: {error}"))?;
    let Metadata {
        name,
        namespace,
        uid,
        resource_version,
    } = head.metadata;
    let name = name.unwrap_or_default();
    if name.is_empty() {
        return Err("an object has no metadata.name".to_owned());
    }
    Ok(Named {
        id: resource.id(&namespace.unwrap_or_default(), &name),
        uid,
        version: resource_version.filter(|version| !version.is_empty()),
    })
}

/// Reads one object. What is wrong with it is the object's, unless it has no name.
pub(super) fn item(resource: Resource, raw: &str, options: Options) -> Result<Item, String> {
    let Named { id, uid, version } = head(resource, raw)?;
    let read = match resource {
        Resource::Namespaces => read(raw, validate::namespace).map(Object::Namespace),
        Resource::Nodes => read(raw, validate::node).map(Object::Node),
        Resource::Pods => read(raw, validate::pod).map(Object::Pod),
        Resource::NetworkPolicies => {
            let validate = |policy: &api::NetworkPolicy| validate::network_policy(policy, options);
            read(raw, validate).map(Object::NetworkPolicy)
        }
    };
    let read = read.and_then(|object| match object.id() == id {
        true => Ok(object),
        false => Err(format!(
            "metadata.namespace: it is named as {}",
            object.id()
        )),
    });
    let read = read.map_err(|message| stand_in::of(&id, raw, message, options));
    Ok(Item {
        id,
        uid,
        version,
        read,
    })
}

fn read<A: DeserializeOwned, V>(
    raw: &str,
    validate: impl Fn(&A) -> Result<V, Vec<FieldError>>,
) -> Result<V, String> {
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    let object: A = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format!("{}: {}", error.path(), error.inner()))?;
    validate(&object).map_err(|wrong| {
        let lines: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}
