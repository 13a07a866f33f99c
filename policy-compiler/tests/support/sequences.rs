//! Random sequences of what happens to a cluster, over few names and addresses, so that everything meets everything.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::index::{Object, ObjectId};
use policy_compiler::lower::{Attachment, Attachments, Bridges, Merging, Options};
use policy_compiler::model::{Cluster, InterfaceName, PolicyId};
use policy_compiler::name::Namer;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support;

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Apply(Object),
    Delete(ObjectId),
    Reset(Vec<Object>),
    Isolate(BTreeSet<PolicyId>),
    Attach(Attachments),
    Update,
}

/// A sequence, and what rules are made for.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    #[allow(dead_code, reason = "not every test has another")]
    pub(crate) node: &'static str,
    pub(crate) options: Options,
    #[allow(dead_code, reason = "not every test has another")]
    pub(crate) namer: Namer,
    pub(crate) events: Vec<Event>,
}

/// The objects that are there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects(BTreeMap<ObjectId, Object>);

impl Objects {
    pub(crate) fn apply(&mut self, object: Object) {
        self.0.insert(object.id(), object);
    }

    pub(crate) fn delete(&mut self, id: &ObjectId) {
        self.0.remove(id);
    }

    pub(crate) fn cluster(&self) -> Cluster {
        let (mut namespaces, mut nodes, mut pods, mut policies) = (vec![], vec![], vec![], vec![]);
        for object in self.0.values().cloned() {
            match object {
                Object::Namespace(object) => namespaces.push(object),
                Object::Node(object) => nodes.push(object),
                Object::Pod(object) => pods.push(object),
                Object::NetworkPolicy(object) => policies.push(object),
            }
        }
        Cluster::new(namespaces, nodes, pods, policies)
    }
}

/// All objects of a cluster.
pub(crate) fn objects(cluster: &Cluster) -> Vec<Object> {
    let namespaces = cluster.namespaces.values().cloned().map(Object::Namespace);
    let nodes = cluster.nodes.values().cloned().map(Object::Node);
    let pods = cluster.pods.values().cloned().map(Object::Pod);
    let policies = cluster
        .policies
        .values()
        .cloned()
        .map(Object::NetworkPolicy);
    namespaces
        .chain(nodes)
        .chain(pods)
        .chain(policies)
        .collect()
}

/// Events that together lead from cluster to cluster by way of everything.
pub(crate) fn sequence() -> impl Strategy<Value = Case> {
    let cluster =
        || prop_oneof![3 => support::cluster().boxed(), 1 => support::crowded_cluster().boxed()];
    let picks = vec((any::<u16>(), 0..100u8), 40);
    (
        vec(cluster(), 4),
        picks,
        options(),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(clusters, picks, options, collide)| {
            let all: Vec<_> = clusters.iter().flat_map(objects).collect();
            let mut events = vec![Event::Reset(objects(&clusters[0])), Event::Update];
            for (which, kind) in picks {
                let object = &all[usize::from(which) % all.len()];
                events.push(match kind {
                    0..45 => Event::Apply(object.clone()),
                    45..65 => Event::Delete(object.id()),
                    65..67 => Event::Reset(objects(&clusters[usize::from(which) % clusters.len()])),
                    67..69 => {
                        let mut few = objects(&clusters[usize::from(which) % clusters.len()]);
                        few.truncate(few.len() / 2);
                        Event::Reset(few)
                    }
                    69..75 => Event::Isolate(match object {
                        Object::NetworkPolicy(policy) => [policy.id.clone()].into(),
                        _ => BTreeSet::new(),
                    }),
                    75..80 => Event::Attach(some_of(&options.attachments, which)),
                    _ => Event::Update,
                });
            }
            events.push(Event::Update);
            Case {
                node: support::NODES[0],
                options,
                namer: match collide {
                    true => Namer::with_digest_length(1),
                    false => Namer::default(),
                },
                events,
            }
        })
}

fn some_of(attachments: &Attachments, which: u16) -> Attachments {
    let all = attachments.iter().zip(0u16..);
    let some = all.filter(|(_, at)| which & (1 << (at % 16)) != 0);
    some.map(|((id, there), _)| (id.clone(), there.clone()))
        .collect()
}

fn options() -> impl Strategy<Value = Options> {
    let merging = prop_oneof![
        Just(Merging::default()),
        (0..4usize, 0..4usize, 0..40usize).prop_map(|(above, elements_per_rule, ranges)| Merging {
            above,
            elements_per_rule,
            ranges,
        }),
    ];
    let node_egress = any::<bool>().prop_map(|allow| match allow {
        true => policy_compiler::evaluate::NodeEgress::Allow,
        false => policy_compiler::evaluate::NodeEgress::Policy,
    });
    (merging, node_egress, 0..4u8).prop_map(|(merging, node_egress, attached)| {
        let name = |text: &str| InterfaceName::new(text).expect("a name");
        let bridges = match attached {
            0 => Bridges::Any,
            1 => Bridges::Named(BTreeSet::new()),
            _ => Bridges::Named([name("br0")].into()),
        };
        let pods = ["x", "y", "z"].into_iter().flat_map(|namespace| {
            (0..8).map(move |number| (format!("{namespace}/pod{number}"), number))
        });
        let attachments = pods
            .filter(|(_, number)| attached > 0 && number % 3 != 0)
            .map(|(id, number)| {
                let attachment = |suffix: &str, addresses| Attachment {
                    interface: name(&format!("veth{number}{suffix}")),
                    bridged: attached > 1,
                    addresses,
                    routes: false,
                };
                // Some have an interface for each half of the addresses.
                let half = |even| {
                    let of = [support::v4, support::v6, support::link_local];
                    let all = (0..8).flat_map(|last| of.map(|address| address(last)));
                    let half = all.enumerate().filter(move |(at, _)| (at % 2 == 0) == even);
                    Some(half.map(|(_, address)| address).collect())
                };
                let all = match number % 2 {
                    0 => vec![attachment("", None)],
                    _ => vec![attachment("a", half(true)), attachment("b", half(false))],
                };
                (id, all)
            });
        Options {
            node_egress,
            bridges,
            attachments: attachments.collect(),
            merging,
            ..Options::default()
        }
    })
}
