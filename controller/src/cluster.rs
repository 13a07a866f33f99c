//! From objects to a valid cluster, and the node rules that follow.

use std::fmt;

use policy_compiler::api::Object;
use policy_compiler::index;
use policy_compiler::model::{Cluster, Owner};
use policy_compiler::validate::{self, FieldError, Options};

use crate::source::{Items, Loaded, ObjectRef, Origin, Sourced};

/// Everything that the API server would refuse, a line each: where, which object, which field, why.
#[derive(Debug, thiserror::Error)]
pub struct Invalid(Vec<String>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Validates one object.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn valid(sourced: &Sourced, options: Options) -> Result<index::Object, Invalid> {
    use index::Object as Valid;
    let result = match &sourced.object {
        Object::Namespace(object) => validate::namespace(object).map(Valid::Namespace),
        Object::Node(object) => validate::node(object).map(Valid::Node),
        Object::Pod(object) => validate::pod(object).map(Valid::Pod),
        Object::NetworkPolicy(object) => {
            validate::network_policy(object, options).map(Valid::NetworkPolicy)
        }
    };
    result.map_err(|wrong| invalid(sourced, &wrong))
}

/// Validates the objects.
///
/// # Errors
/// Every field of every object that is wrong.
pub fn build(loaded: &Loaded, options: Options) -> Result<Cluster, Invalid> {
    let (mut of_input, mut of_made_up) = (Vec::new(), Vec::new());
    let (mut namespaces, mut nodes, mut pods, mut policies) = (vec![], vec![], vec![], vec![]);
    for sourced in &loaded.objects {
        let errors = match sourced.origin {
            Origin::MadeUp => &mut of_made_up,
            Origin::Read(_) | Origin::StandIn(_) => &mut of_input,
        };
        match valid(sourced, options) {
            Ok(index::Object::Namespace(object)) => namespaces.push(object),
            Ok(index::Object::Node(object)) => nodes.push(object),
            Ok(index::Object::Pod(object)) => pods.push(object),
            Ok(index::Object::NetworkPolicy(object)) => policies.push(object),
            Err(Invalid(wrong)) => errors.extend(wrong),
        }
    }
    // Who names what cannot be made up is mostly refused for it already.
    let errors = if of_input.is_empty() {
        of_made_up
    } else {
        of_input
    };
    if errors.is_empty() {
        Ok(Cluster::new(namespaces, nodes, pods, policies))
    } else {
        Err(Invalid(errors))
    }
}

fn invalid(sourced: &Sourced, wrong: &[FieldError]) -> Invalid {
    let metadata = sourced.object.metadata();
    let object = ObjectRef {
        kind: sourced.object.kind().to_owned(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    };
    let items = Items(sourced.origin.items());
    let lines = wrong
        .iter()
        .map(|error| format!("{}: {object}{items}: {error}", sourced.origin));
    Invalid(lines.collect())
}

/// What a live pod claims and another has: a sentence for each such address, naming both. Packets have only one
/// owner, so the pod that is named first is judged as the other on this address.
pub fn disputed_addresses(cluster: &Cluster) -> Vec<String> {
    let live = cluster.pods.values().filter(|pod| pod.is_on_pod_network());
    let claims = live.flat_map(|pod| pod.addresses.iter().map(move |address| (pod, *address)));
    claims
        .filter_map(|(pod, address)| {
            let owner = match cluster.owner(address) {
                Owner::Pod(owner) if owner.id == pod.id => return None,
                Owner::Pod(owner) => format!("Pod {}", owner.id),
                Owner::Node(node) => format!("Node {node}"),
                Owner::External => return None,
            };
            let id = &pod.id;
            Some(format!(
                "Pod {id}: its address {address} is also that of {owner}, whose it is taken to be"
            ))
        })
        .collect()
}
