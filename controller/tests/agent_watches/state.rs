//! Whatever the four watches say in whatever order, what was told adds up to what counts.

use std::collections::BTreeMap;

use controller::agent::source::{Change, Event};
use controller::agent::watches::{State, Update};
use controller::kubernetes::{Bad, Item, Resource};
use policy_compiler::api;
use policy_compiler::index::{Object, ObjectId};
use policy_compiler::validate;
use proptest::collection::vec;
use proptest::prelude::*;

const NODE: &str = "n0";

/// What happens to one object on the server.
#[derive(Clone, Copy, Debug)]
enum Content {
    Good(u8),
    /// With a stand-in or without.
    Bad(Option<u8>),
    Gone,
}

#[derive(Clone, Debug)]
enum Step {
    /// The watch tells of it.
    Told(Resource, u8, Content),
    /// It happens while the watch is away.
    Missed(Resource, u8, Content),
    /// All is listed.
    Listed(Resource),
    /// The watch says again what is.
    Again(Resource, u8),
    Trouble(Resource, bool),
    /// Who listens takes so many events.
    Taken(u8),
}

fn name(resource: Resource, index: u8) -> String {
    match resource {
        Resource::Nodes => format!("n{index}"),
        _ => format!("o{index}"),
    }
}

fn id(resource: Resource, index: u8) -> ObjectId {
    resource.id("ns", &name(resource, index))
}

/// An object of the kind that differs by its variant.
fn object(resource: Resource, index: u8, variant: u8) -> Object {
    let label = ("v".to_owned(), variant.to_string());
    let metadata = api::ObjectMeta {
        name: Some(name(resource, index)),
        namespace: Some("ns".to_owned()),
        labels: Some([label.clone()].into()),
        ..api::ObjectMeta::default()
    };
    match resource {
        Resource::Namespaces => {
            Object::Namespace(validate::namespace(&api::Namespace { metadata }).unwrap())
        }
        Resource::Nodes => {
            let addresses = vec![api::NodeAddress {
                type_: "InternalIP".to_owned(),
                address: format!("192.0.2.{variant}"),
            }];
            let status = Some(api::NodeStatus {
                addresses: Some(addresses),
            });
            let node = api::Node {
                metadata,
                status,
                spec: None,
            };
            Object::Node(validate::node(&node).unwrap())
        }
        Resource::Pods => {
            let pod = api::Pod {
                metadata,
                ..api::Pod::default()
            };
            Object::Pod(validate::pod(&pod).unwrap())
        }
        Resource::NetworkPolicies => {
            let spec = api::NetworkPolicySpec {
                pod_selector: Some(api::LabelSelector {
                    match_labels: Some([label].into()),
                    match_expressions: None,
                }),
                ..api::NetworkPolicySpec::default()
            };
            let policy = api::NetworkPolicy {
                metadata,
                spec: Some(spec),
            };
            let options = validate::Options::default();
            Object::NetworkPolicy(validate::network_policy(&policy, options).unwrap())
        }
    }
}

fn item(resource: Resource, index: u8, content: Content) -> Item {
    let read = match content {
        Content::Good(variant) => Ok(object(resource, index, variant)),
        Content::Bad(stand_in) => Err(Bad {
            message: "bad".to_owned(),
            stand_in: stand_in.map(|variant| object(resource, index, variant)),
            effect: "effect",
        }),
        Content::Gone => unreachable!("it is no item"),
    };
    Item {
        id: id(resource, index),
        uid: None,
        version: None,
        read,
    }
}

/// What counts, by the words of the module: the last good state, else the stand-in, else nothing.
#[derive(Default)]
struct Model {
    server: BTreeMap<(Resource, u8), Content>,
    counts: BTreeMap<ObjectId, (Object, bool)>,
    bad: std::collections::BTreeSet<ObjectId>,
    listed: std::collections::BTreeSet<Resource>,
}

impl Model {
    fn tell(&mut self, resource: Resource, index: u8, content: Content) {
        let id = id(resource, index);
        self.bad.remove(&id);
        match content {
            Content::Good(variant) => {
                self.counts
                    .insert(id, (object(resource, index, variant), true));
            }
            Content::Bad(stand_in) => {
                self.bad.insert(id.clone());
                if self.counts.get(&id).is_some_and(|(_, is_good)| *is_good) {
                    return;
                }
                match stand_in {
                    Some(variant) => {
                        let object = object(resource, index, variant);
                        drop(self.counts.insert(id, (object, false)));
                    }
                    None => drop(self.counts.remove(&id)),
                }
            }
            Content::Gone => drop(self.counts.remove(&id)),
        }
    }

    fn set(&mut self, resource: Resource, index: u8, content: Content) {
        match content {
            Content::Gone => drop(self.server.remove(&(resource, index))),
            other => drop(self.server.insert((resource, index), other)),
        }
    }
}

/// Who listens.
#[derive(Default)]
struct Listener {
    objects: Option<BTreeMap<ObjectId, Object>>,
    problems: std::collections::BTreeSet<String>,
    told: usize,
}

impl Listener {
    fn take(&mut self, event: Event, model: &Model) {
        match event {
            Event::Reset(objects) => {
                assert!(self.objects.is_none(), "there is one reset");
                assert_eq!(model.listed.len(), 4);
                let all = objects.into_iter().map(|object| (object.id(), object));
                let all: BTreeMap<_, _> = all.collect();
                let node = ObjectId::Node(NODE.to_owned());
                assert!(all.contains_key(&node) || model.bad.contains(&node));
                self.objects = Some(all);
            }
            Event::Changes(changes) => {
                let objects = self.objects.as_mut().expect("changes before a reset");
                assert!(!changes.is_empty());
                for change in changes {
                    self.told += 1;
                    match change {
                        Change::Apply(object) => drop(objects.insert(object.id(), object)),
                        Change::Delete(id) => {
                            objects.remove(&id);
                            // Nothing that counts is deleted, not for a moment.
                            assert!(!model.counts.contains_key(&id), "{id}");
                        }
                    }
                }
            }
            Event::Problems(problems) => {
                let bad = problems
                    .into_iter()
                    .filter(|(_, problem)| problem.message.starts_with("bad"));
                self.problems = bad.map(|(place, _)| place).collect();
            }
        }
    }
}

fn resource() -> impl Strategy<Value = Resource> {
    prop::sample::select(Resource::ALL.to_vec())
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        3 => (0u8..3).prop_map(Content::Good),
        1 => (0u8..3).prop_map(|variant| Content::Bad(Some(variant))),
        1 => Just(Content::Bad(None)),
        2 => Just(Content::Gone),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (resource(), 0u8..4, content()).prop_map(|(of, index, content)| Step::Told(of, index, content)),
        3 => (resource(), 0u8..4, content()).prop_map(|(of, index, content)| Step::Missed(of, index, content)),
        3 => resource().prop_map(Step::Listed),
        1 => (resource(), 0u8..4).prop_map(|(of, index)| Step::Again(of, index)),
        1 => (resource(), any::<bool>()).prop_map(|(of, is_well)| Step::Trouble(of, is_well)),
        2 => (0u8..3).prop_map(Step::Taken),
    ]
}

fn list(state: &mut State, model: &mut Model, resource: Resource) {
    model.listed.insert(resource);
    let there: Vec<_> = model
        .server
        .iter()
        .filter(|((of, _), _)| *of == resource)
        .collect();
    let items = there
        .iter()
        .map(|((_, index), content)| item(resource, *index, **content));
    state.take(resource, Update::Listed(items.collect(), Vec::new()));
    for index in 0..4 {
        let content = model.server.get(&(resource, index)).copied();
        model.tell(resource, index, content.unwrap_or(Content::Gone));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_told_adds_up_to_what_counts(steps in vec(step(), 0..60)) {
        let mut state = State::new(NODE);
        let mut model = Model::default();
        let mut listener = Listener::default();
        for step in steps {
            match step {
                // A watch tells nothing before its list.
                Step::Told(resource, index, content) if model.listed.contains(&resource) => {
                    model.set(resource, index, content);
                    model.tell(resource, index, content);
                    let update = match content {
                        Content::Gone => Update::Deleted(id(resource, index)),
                        content => Update::Applied(item(resource, index, content)),
                    };
                    state.take(resource, update);
                }
                Step::Told(resource, index, content) | Step::Missed(resource, index, content) => {
                    model.set(resource, index, content);
                }
                Step::Listed(resource) => list(&mut state, &mut model, resource),
                Step::Again(resource, index) => {
                    let content = model.server.get(&(resource, index)).copied();
                    if let Some(content) = content && model.listed.contains(&resource) {
                        model.tell(resource, index, content);
                        state.take(resource, Update::Applied(item(resource, index, content)));
                    }
                }
                Step::Trouble(resource, is_well) => {
                    let trouble = (!is_well).then(|| "away".to_owned());
                    state.take(resource, Update::Trouble(trouble));
                }
                Step::Taken(most) => {
                    for _ in 0..most {
                        assert_eq!(state.has_event(), state.clone().event().is_some());
                        if let Some(event) = state.event() {
                            listener.take(event, &model);
                        }
                    }
                }
            }
        }
        model.set(Resource::Nodes, 0, Content::Good(1));
        for resource in Resource::ALL {
            list(&mut state, &mut model, resource);
        }
        while let Some(event) = state.event() {
            listener.take(event, &model);
        }
        let expected: BTreeMap<_, _> = model.counts.iter().map(|(id, (object, _))| (id.clone(), object.clone())).collect();
        prop_assert_eq!(listener.objects.as_ref(), Some(&expected));
        let bad = model.bad.iter().map(ToString::to_string).collect();
        prop_assert_eq!(&listener.problems, &bad);
        // All of it again is no news.
        let told = listener.told;
        for resource in Resource::ALL {
            list(&mut state, &mut model, resource);
        }
        prop_assert!(!state.has_event());
        prop_assert_eq!(listener.told, told);
    }
}

#[test]
fn of_several_clusters_that_are_named_one_after_the_other_the_last_counts_alone() {
    let mut state = State::new(NODE);
    let say = |state: &mut State, resource, variant| {
        let items = vec![item(resource, 0, Content::Good(variant))];
        state.take(resource, Update::Listed(items, Vec::new()));
    };
    for resource in Resource::ALL {
        say(&mut state, resource, 0);
    }
    assert!(matches!(state.event(), Some(Event::Reset(_))));
    // Three watches follow to the second, and list it; then all follow to the third.
    for resource in &Resource::ALL[1..] {
        state.take(*resource, Update::Moved(1));
        say(&mut state, *resource, 1);
    }
    for resource in Resource::ALL {
        // What is not listed yet is still of the first, or of the second.
        state.take(resource, Update::Moved(2));
        assert!(matches!(state.event(), Some(Event::Problems(_)) | None));
        say(&mut state, resource, 2);
        let last = Resource::ALL[3];
        assert!(resource == last || !matches!(state.event(), Some(Event::Changes(_))));
    }
    assert_eq!(state.event(), Some(Event::Problems([].into())));
    let Some(Event::Changes(changes)) = state.event() else {
        panic!("there are changes");
    };
    let of_last = Resource::ALL.map(|resource| Change::Apply(object(resource, 0, 2)));
    assert_eq!(changes.len(), 4);
    assert!(
        of_last.iter().all(|change| changes.contains(change)),
        "{changes:?}"
    );
    assert!(!state.has_event());
}
