//! What four watches say, as one source: no IO, no clock.
//!
//! It remembers of each object what it said of it last, as a digest, so that what comes again is no news, and what a new
//! list no longer has is told as deleted. What is to be said waits by object: of what changes twice meanwhile, the latter
//! counts.

use std::collections::hash_map::{HashMap, RandomState};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use policy_compiler::index::{Object, ObjectId};

use crate::agent::source::{Change, Event, Problem};
use crate::kubernetes::{Bad, Item, Resource};

/// So many objects are named as problems; the rest is counted.
const NAMED: usize = 100;

/// What a watch says.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// All objects there are, and what is wrong with those that have no name.
    Listed(Vec<Item>, Vec<String>),
    /// An object is there.
    Applied(Item),
    /// An object is gone.
    Deleted(ObjectId),
    /// An object came that has no name.
    Nameless(String),
    /// The API server is away, or refuses; or not any more.
    Trouble(Option<String>),
}

/// What was said last of an object.
#[derive(Clone, Copy, Debug)]
struct Known {
    digest: u64,
    /// Whether that was the object itself, and not what stands for it.
    is_good: bool,
}

/// What is known of a kind.
#[derive(Clone, Debug, Default)]
struct Kind {
    /// Whether all of it was listed once.
    is_listed: bool,
    known: HashMap<ObjectId, Known>,
    bad: BTreeMap<ObjectId, String>,
    /// What is wrong with the last object without a name.
    nameless: Option<String>,
    trouble: Option<String>,
}

/// Four watches as one source.
#[derive(Clone, Debug)]
pub struct State {
    node: String,
    hasher: RandomState,
    kinds: BTreeMap<Resource, Kind>,
    /// Whether a complete state was said.
    is_complete: bool,
    changes: BTreeMap<ObjectId, Change>,
    problems: BTreeMap<String, Problem>,
    /// Whether `problems` may be others by now.
    is_outdated: bool,
    said: BTreeMap<String, Problem>,
}

impl State {
    /// Nothing is known. The state is complete when all kinds were listed, and the node is there.
    pub fn new(node: impl Into<String>) -> Self {
        let kinds = Resource::ALL.map(|resource| (resource, Kind::default()));
        Self {
            node: node.into(),
            hasher: RandomState::new(),
            kinds: kinds.into(),
            is_complete: false,
            changes: BTreeMap::new(),
            problems: BTreeMap::new(),
            is_outdated: false,
            said: BTreeMap::new(),
        }
    }

    /// Takes what a watch says.
    pub fn take(&mut self, resource: Resource, update: Update) {
        match update {
            Update::Applied(item) => self.apply(item),
            Update::Deleted(id) => self.delete(&id),
            Update::Listed(items, nameless) => {
                self.is_outdated = true;
                let there: BTreeSet<_> = items.iter().map(|item| item.id.clone()).collect();
                let kind = self.kinds.entry(resource).or_default();
                kind.is_listed = true;
                kind.nameless = nameless.into_iter().next_back();
                let known = kind.known.keys().chain(kind.bad.keys());
                let gone = known.filter(|id| !there.contains(id));
                let gone: BTreeSet<_> = gone.cloned().collect();
                gone.iter().for_each(|id| self.delete(id));
                items.into_iter().for_each(|item| self.apply(item));
            }
            Update::Nameless(wrong) => {
                self.is_outdated = true;
                self.kinds.entry(resource).or_default().nameless = Some(wrong);
            }
            Update::Trouble(trouble) => {
                self.is_outdated = true;
                self.kinds.entry(resource).or_default().trouble = trouble;
            }
        }
        if std::mem::take(&mut self.is_outdated) {
            self.name_problems();
        }
    }

    /// What is to be said now, if there is something. It counts as said then.
    pub fn event(&mut self) -> Option<Event> {
        if self.problems != self.said {
            self.said = self.problems.clone();
            return Some(Event::Problems(self.said.clone()));
        }
        if !self.is_complete {
            if !self.can_complete() {
                return None;
            }
            self.is_complete = true;
            let objects = std::mem::take(&mut self.changes).into_values();
            let objects = objects.filter_map(|change| match change {
                Change::Apply(object) => Some(object),
                Change::Delete(_) => None,
            });
            let reset = Event::Reset(objects.collect());
            self.name_problems();
            return Some(reset);
        }
        if self.changes.is_empty() {
            return None;
        }
        let changes = std::mem::take(&mut self.changes);
        Some(Event::Changes(changes.into_values().collect()))
    }

    /// Whether [`State::event`] has something.
    pub fn has_event(&self) -> bool {
        self.problems != self.said
            || if self.is_complete {
                !self.changes.is_empty()
            } else {
                self.can_complete()
            }
    }

    fn can_complete(&self) -> bool {
        self.kinds.values().all(|kind| kind.is_listed) && self.has_node()
    }

    /// Also one that is not valid is there: without its addresses the kernel knows which are this node's.
    fn has_node(&self) -> bool {
        let node = ObjectId::Node(self.node.clone());
        let nodes = self.kinds.get(&Resource::Nodes);
        nodes.is_some_and(|of| of.known.contains_key(&node) || of.bad.contains_key(&node))
    }

    fn apply(&mut self, item: Item) {
        let Item { id, read, .. } = item;
        let kind = self.kinds.entry(Resource::of(&id)).or_default();
        let before = kind.known.get(&id).copied();
        let (object, is_good) = match read {
            Ok(object) => {
                let was_bad = kind.bad.remove(&id).is_some();
                self.is_outdated |= was_bad || matches!(id, ObjectId::Node(_));
                (Some(object), true)
            }
            Err(Bad {
                message,
                stand_in,
                effect,
            }) => {
                self.is_outdated = true;
                // What was good stays as it was.
                if before.is_some_and(|known| known.is_good) {
                    kind.bad.insert(id, message);
                    return;
                }
                kind.bad.insert(id.clone(), format!("{message}\n{effect}"));
                (stand_in, false)
            }
        };
        match object {
            Some(object) => self.say(id, object, is_good),
            None => self.unsay(&id),
        }
    }

    fn delete(&mut self, id: &ObjectId) {
        let kind = self.kinds.entry(Resource::of(id)).or_default();
        let was_bad = kind.bad.remove(id).is_some();
        self.is_outdated |= was_bad || matches!(id, ObjectId::Node(_));
        self.unsay(id);
    }

    fn say(&mut self, id: ObjectId, object: Object, is_good: bool) {
        let digest = self.hasher.hash_one(&object);
        let kind = self.kinds.entry(Resource::of(&id)).or_default();
        let known = Known { digest, is_good };
        let before = kind.known.insert(id.clone(), known);
        if before.is_none_or(|before| before.digest != digest) {
            self.changes.insert(id, Change::Apply(object));
        }
    }

    fn unsay(&mut self, id: &ObjectId) {
        let kind = self.kinds.entry(Resource::of(id)).or_default();
        if kind.known.remove(id).is_none() {
            return;
        }
        if self.is_complete {
            self.changes.insert(id.clone(), Change::Delete(id.clone()));
        } else {
            self.changes.remove(id);
        }
    }

    /// Everything that is wrong now.
    fn name_problems(&mut self) {
        let blocks = !self.is_complete;
        let mut problems = BTreeMap::new();
        for (resource, kind) in &self.kinds {
            let mut lines: Vec<_> = kind.trouble.iter().cloned().collect();
            if *resource == Resource::Nodes && blocks && kind.is_listed && !self.has_node() {
                lines.push(format!(
                    "there is no Node {}: mend --node, or wait until the kubelet has registered it",
                    self.node
                ));
            }
            if !lines.is_empty() {
                let message = lines.join("\n");
                problems.insert(resource.name().to_owned(), Problem { message, blocks });
            }
            let problem = |message: String| Problem {
                message,
                blocks: false,
            };
            if let Some(wrong) = &kind.nameless {
                let place = format!("{resource} without a name");
                problems.insert(place, problem(wrong.clone()));
            }
            for (id, message) in kind.bad.iter().take(NAMED) {
                problems.insert(id.to_string(), problem(message.clone()));
            }
            if let Some(more) = kind.bad.len().checked_sub(NAMED).filter(|more| *more > 0) {
                let place = format!("{resource} besides these");
                problems.insert(place, problem(format!("{more} more are not valid")));
            }
        }
        self.problems = problems;
    }
}
