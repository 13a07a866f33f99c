//! What is asked for, as paths of the API.

use std::fmt::{self, Write};
use std::time::Duration;

use policy_compiler::index::ObjectId;
use policy_compiler::model::NamespacedName;

/// A kind of objects, by its name in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// core/v1 namespaces.
    Namespaces,
    /// core/v1 nodes.
    Nodes,
    /// core/v1 pods.
    Pods,
    /// networking.k8s.io/v1 networkpolicies.
    NetworkPolicies,
}

impl Resource {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::Namespaces,
        Self::Nodes,
        Self::Pods,
        Self::NetworkPolicies,
    ];

    /// Its name, as in a ClusterRole.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::NetworkPolicies => "networkpolicies",
        }
    }

    /// Its API group, as in a ClusterRole; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::NetworkPolicies => "networking.k8s.io",
            Self::Namespaces | Self::Nodes | Self::Pods => "",
        }
    }

    fn is_namespaced(self) -> bool {
        matches!(self, Self::Pods | Self::NetworkPolicies)
    }

    fn root(self) -> &'static str {
        match self {
            Self::NetworkPolicies => "/apis/networking.k8s.io/v1",
            Self::Namespaces | Self::Nodes | Self::Pods => "/api/v1",
        }
    }

    /// A list of the one object of this name, for whoever may list and not get.
    pub(super) fn one_of(self, id: &NamespacedName) -> String {
        let mut path = format!("{}/namespaces/", self.root());
        escape(&mut path, &id.namespace);
        path.push('/');
        path.push_str(self.name());
        path.push_str("?fieldSelector=metadata.name%3D");
        escape(&mut path, &id.name);
        path
    }

    /// What names the object of this kind with this metadata.
    pub fn id(self, namespace: &str, name: &str) -> ObjectId {
        let namespaced = || NamespacedName::new(namespace, name);
        match self {
            Self::Namespaces => ObjectId::Namespace(name.to_owned()),
            Self::Nodes => ObjectId::Node(name.to_owned()),
            Self::Pods => ObjectId::Pod(namespaced()),
            Self::NetworkPolicies => ObjectId::NetworkPolicy(namespaced()),
        }
    }

    /// The kind of this object.
    pub fn of(id: &ObjectId) -> Self {
        match id {
            ObjectId::Namespace(_) => Self::Namespaces,
            ObjectId::Node(_) => Self::Nodes,
            ObjectId::Pod(_) => Self::Pods,
            ObjectId::NetworkPolicy(_) => Self::NetworkPolicies,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The kind.
    pub resource: Resource,
    /// A field selector, if not all of them are wanted.
    pub fields: Option<String>,
}

impl Selection {
    /// All objects of a kind.
    pub fn all(resource: Resource) -> Self {
        Self {
            resource,
            fields: None,
        }
    }

    /// Those that a node needs of the kind. Pods that have ended are nobody, and their addresses may be others': the API
    /// server tells of one that ends as if it were deleted. Of other nodes' Nodes nothing is enforced, and they change
    /// all the time.
    pub fn of_node(resource: Resource, node: &str) -> Self {
        let fields = match resource {
            Resource::Pods => Some("status.phase!=Succeeded,status.phase!=Failed".to_owned()),
            Resource::Nodes => Some(format!("metadata.name={node}")),
            Resource::Namespaces | Resource::NetworkPolicies => None,
        };
        Self { resource, fields }
    }

    /// A page of a list that is as new as etcd.
    pub(super) fn page(&self, limit: u32, next: Option<&str>) -> String {
        self.path(&[("limit", Some(&limit.to_string())), ("continue", next)])
    }

    /// A watch that begins with a list that is as new as etcd, and says where it ends.
    pub fn stream(&self, lifetime: Duration) -> String {
        let seconds = lifetime.as_secs().to_string();
        self.path(&[
            ("watch", Some("true")),
            ("allowWatchBookmarks", Some("true")),
            ("sendInitialEvents", Some("true")),
            ("resourceVersionMatch", Some("NotOlderThan")),
            ("timeoutSeconds", Some(&seconds)),
        ])
    }

    /// A watch of what happened since a version.
    pub fn watch(&self, version: &str, lifetime: Duration) -> String {
        let seconds = lifetime.as_secs().to_string();
        self.path(&[
            ("watch", Some("true")),
            ("allowWatchBookmarks", Some("true")),
            ("resourceVersion", Some(version)),
            ("timeoutSeconds", Some(&seconds)),
        ])
    }

    /// A list that costs the API server one key of etcd, whether or not there is an object of that name. Its version is
    /// that of the whole store.
    pub(super) fn one(&self) -> String {
        let root = self.resource.root();
        let namespace = match self.resource.is_namespaced() {
            true => "/namespaces/default",
            false => "",
        };
        let name = self.resource.name();
        format!("{root}{namespace}/{name}?fieldSelector=metadata.name%3Ddefault")
    }

    fn path(&self, query: &[(&str, Option<&str>)]) -> String {
        let mut path = format!("{}/{}", self.resource.root(), self.resource.name());
        let fields = [("fieldSelector", self.fields.as_deref())];
        let mut separator = '?';
        for (name, value) in fields.iter().chain(query) {
            if let Some(value) = value {
                path.push(separator);
                path.push_str(name);
                path.push('=');
                escape(&mut path, value);
                separator = '&';
            }
        }
        path
    }
}

/// RFC 3986: everything but unreserved characters is escaped.
pub fn escape(path: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_reaches_the_syntax_of_a_path() {
        let selection = Selection::of_node(Resource::Nodes, "a&watch=true#/é");
        assert_eq!(
            selection.page(500, Some("eyJ2Ijo=")),
            "/api/v1/nodes?fieldSelector=metadata.name%3Da%26watch%3Dtrue%23%2F%C3%A9&limit=500&continue=eyJ2Ijo%3D"
        );
        assert_eq!(
            Selection::all(Resource::NetworkPolicies).page(500, None),
            "/apis/networking.k8s.io/v1/networkpolicies?limit=500"
        );
    }

    #[test]
    fn one_object_is_listed_by_its_name() {
        assert_eq!(
            Resource::NetworkPolicies.one_of(&NamespacedName::new("shop", "d b")),
            "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies?fieldSelector=metadata.name%3Dd%20b"
        );
    }

    #[test]
    fn the_version_of_the_store_is_asked_with_the_name_of_one_object() {
        let one = |resource| Selection::all(resource).one();
        assert_eq!(
            one(Resource::Nodes),
            "/api/v1/nodes?fieldSelector=metadata.name%3Ddefault"
        );
        assert_eq!(
            one(Resource::NetworkPolicies),
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies?fieldSelector=metadata.name%3Ddefault"
        );
    }
}
