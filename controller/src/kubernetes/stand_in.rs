//! What stands for an object that is not valid, and never was while we looked. It opens nothing.

use policy_compiler::api;
use policy_compiler::index::{Object, ObjectId};
use policy_compiler::validate::{self, Options};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Bad;

/// The object, with what is wrong with it.
pub(super) fn of(id: &ObjectId, raw: &str, message: String, options: Options) -> Bad {
    let value: Value = serde_json::from_str(raw).unwrap_or_default();
    let (stand_in, effect) = match id {
        ObjectId::NetworkPolicy(id) => {
            let metadata = api::ObjectMeta {
                name: Some(id.name.clone()),
                namespace: Some(id.namespace.clone()),
                ..api::ObjectMeta::default()
            };
            policy(&metadata, &value["spec"], options)
        }
        ObjectId::Pod(_) => pod(value),
        ObjectId::Namespace(_) => (None, "its pods match no namespaceSelector"),
        ObjectId::Node(_) => (None, "its addresses are nobody's"),
    };
    Bad {
        message,
        stand_in,
        effect,
    }
}

/// Isolates what the policy selects, as far as that can be read; else all pods of its namespace. It allows nothing.
fn policy(
    metadata: &api::ObjectMeta,
    spec: &Value,
    options: Options,
) -> (Option<Object>, &'static str) {
    let valid = |pod_selector, policy_types| {
        let policy = api::NetworkPolicy {
            metadata: metadata.clone(),
            spec: Some(api::NetworkPolicySpec {
                pod_selector,
                policy_types: Some(policy_types),
                ingress: None,
                egress: None,
            }),
        };
        validate::network_policy(&policy, options).ok()
    };
    let is_readable = spec.is_object() || spec.is_null();
    let selected = field::<api::LabelSelector>(spec, "podSelector")
        .filter(|_| is_readable)
        .and_then(|selector| valid(selector, types(spec)));
    let (policy, effect) = match selected {
        Some(policy) => (
            Some(policy),
            "it isolates the pods that it selects, and allows nothing",
        ),
        None => (
            valid(None, both()),
            "it isolates all pods of its namespace, and allows nothing",
        ),
    };
    match policy {
        Some(policy) => (Some(Object::NetworkPolicy(policy)), effect),
        None => (None, "it is not enforced"),
    }
}

fn both() -> Vec<String> {
    vec!["Ingress".to_owned(), "Egress".to_owned()]
}

/// The directions in which the policy isolates; both where that cannot be read.
fn types(spec: &Value) -> Vec<String> {
    let given = field::<Vec<String>>(spec, "policyTypes");
    let has_egress = match &spec["egress"] {
        Value::Null => false,
        Value::Array(rules) => !rules.is_empty(),
        _ => true,
    };
    match given {
        Some(None) if !has_egress => vec!["Ingress".to_owned()],
        Some(Some(types)) if types.is_empty() && !has_egress => vec!["Ingress".to_owned()],
        Some(Some(types))
            if !types.is_empty() && types.iter().all(|given| both().contains(given)) =>
        {
            types
        }
        _ => both(),
    }
}

/// The pod without its ports, if those are all that is wrong with it: a policy that names one does not find it.
fn pod(mut value: Value) -> (Option<Object>, &'static str) {
    if let Some(Value::Object(spec)) = value.get_mut("spec") {
        spec.remove("containers");
        spec.remove("initContainers");
    }
    let pod = serde_json::from_value::<api::Pod>(value).ok();
    match pod.and_then(|pod| validate::pod(&pod).ok()) {
        Some(pod) => (
            Some(Object::Pod(pod)),
            "its ports are not known by their names",
        ),
        None => (
            None,
            "no policy is enforced for it, and no selector finds it",
        ),
    }
}

/// A field: nothing if it cannot be read, and nothing in it if it is not there.
fn field<T: DeserializeOwned>(of: &Value, name: &str) -> Option<Option<T>> {
    serde_json::from_value(of.get(name).cloned().unwrap_or_default()).ok()
}
