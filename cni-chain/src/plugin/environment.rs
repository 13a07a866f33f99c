//! What the runtime says in `CNI_` variables.

use std::ffi::OsString;

use super::error::{Code, Error};
use crate::attachment::{AttachmentId, PodIdentity, object_name};
use crate::version::Version;

/// `CNI_COMMAND`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    pub(super) fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Self> {
        Some(match variable("CNI_COMMAND")?.to_str()? {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// Whether this version of CNI has the verb.
    pub(super) fn allowed_by(self, version: Version) -> Result<(), Error> {
        let since = match self {
            Self::Add | Self::Del | Self::Version => Version::V030,
            Self::Check => Version::V040,
            Self::Gc | Self::Status => Version::V110,
        };
        if version >= since {
            return Ok(());
        }
        Err(Error::new(
            Code::Version,
            format!("CNI {} has no {}", version.text(), self.name()),
            format!("it is there from cniVersion {} on", since.text()),
        ))
    }
}

/// Which interface of which container is meant, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) id: AttachmentId,
    /// Empty where the namespace is gone, which only DEL takes.
    pub(super) netns: String,
    /// Nobody's, where the runtime is not one of Kubernetes.
    pub(super) pod: Option<PodIdentity>,
}

impl Environment {
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let text = |name: &str| match variable(name).unwrap_or_default().into_string() {
            Ok(text) => Ok(text),
            Err(_) => Err(Error::new(
                Code::Environment,
                format!("{name} is not valid"),
                "it is not UTF-8",
            )),
        };
        let id = AttachmentId::new(&text("CNI_CONTAINERID")?, &text("CNI_IFNAME")?);
        let id = id.map_err(|error| {
            let message = "CNI_CONTAINERID or CNI_IFNAME is missing or not valid";
            Error::of(Code::Environment, message, &error)
        })?;
        Ok(Self {
            id,
            netns: text("CNI_NETNS")?,
            pod: pod(&text("CNI_ARGS")?)?,
        })
    }

    /// The path of the network namespace.
    pub(super) fn netns(&self) -> Result<&str, Error> {
        if self.netns.is_empty() {
            return Err(Error::new(
                Code::Environment,
                "CNI_NETNS is missing",
                "it is the path of the container's network namespace",
            ));
        }
        Ok(&self.netns)
    }
}

/// The pod that `CNI_ARGS` names: `K=V;K=V` in any order. The last of two with the same key counts.
fn pod(args: &str) -> Result<Option<PodIdentity>, Error> {
    let (mut namespace, mut name, mut uid) = ("", "", "");
    for (key, value) in args.split(';').filter_map(|pair| pair.split_once('=')) {
        match key.trim() {
            "K8S_POD_NAMESPACE" => namespace = value.trim(),
            "K8S_POD_NAME" => name = value.trim(),
            "K8S_POD_UID" => uid = value.trim(),
            _ => {}
        }
    }
    if namespace.is_empty() || name.is_empty() {
        return Ok(None);
    }
    let odd = |error| Error::of(Code::Environment, "CNI_ARGS names no pod", &error);
    object_name("K8S_POD_NAMESPACE", namespace).map_err(odd)?;
    object_name("K8S_POD_NAME", name).map_err(odd)?;
    Ok(Some(PodIdentity {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty() && !uid.contains(char::is_control)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &str, expected: Option<(&str, &str, Option<&str>)>) {
        let expected = expected.map(|(namespace, name, uid)| PodIdentity {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.map(str::to_owned),
        });
        assert_eq!(pod(args).expect("valid"), expected, "{args}");
    }

    #[test]
    fn a_pod_is_named_in_any_order_or_not_at_all() {
        let web = Some(("default", "web-0", Some("6d1c")));
        check(
            "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=81;K8S_POD_UID=6d1c;IgnoreUnknown=1",
            web,
        );
        check(
            "IgnoreUnknown=1;K8S_POD_UID=6d1c;K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default",
            web,
        );
        check(
            ";;a;=;K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default;",
            Some(("default", "web-0", None)),
        );
        check(
            "K8S_POD_NAME=x=y;K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;K8S_POD_UID=",
            Some(("b", "a", None)),
        );
        // podman
        check("IgnoreUnknown=1;K8S_POD_NAME=web", None);
        check("K8S_POD_NAMESPACE=default", None);
        check("K8S_POD_NAMESPACE=;K8S_POD_NAME=web", None);
        check("", None);
        for args in [
            "K8S_POD_NAMESPACE=a/b;K8S_POD_NAME=c",
            "K8S_POD_NAMESPACE=a;K8S_POD_NAME=B\n",
        ] {
            assert_eq!(pod(args).expect_err(args).code, Code::Environment);
        }
    }
}
