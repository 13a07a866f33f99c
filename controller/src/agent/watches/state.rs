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

/// As what is named that concerns all kinds.
const API_SERVER: &str = "API server";

/// What a watch says.
#[expect(
    clippy::large_enum_variant,
    reason = "most that waits is of this variant"
)]
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
    /// It is another cluster that is asked: what follows is its, and begins with [`Update::Listed`]. Of two numbers the
    /// larger one is the later cluster's.
    Moved(u64),
}

/// What was said last of an object.
#[derive(Clone, Copy, Debug)]
struct Known {
    digest: u64,
    /// Of its `metadata.uid`.
    uid: u64,
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

/// A kind of another cluster, of which not all is listed yet.
#[derive(Clone, Debug)]
struct Listing {
    /// Which cluster's.
    moves: u64,
    /// What there is and has no name, once all was listed.
    listed: Option<(BTreeMap<ObjectId, Item>, Option<String>)>,
}

impl Listing {
    /// Takes what concerns it, and returns what does not.
    fn take(&mut self, update: Update) -> Option<Update> {
        match (update, &mut self.listed) {
            (Update::Listed(items, nameless), listed) => {
                let items = items.into_iter().map(|item| (item.id.clone(), item));
                *listed = Some((items.collect(), nameless.into_iter().next_back()));
            }
            (Update::Applied(item), Some((items, _))) => {
                items.insert(item.id.clone(), item);
            }
            (Update::Deleted(id), Some((items, _))) => drop(items.remove(&id)),
            (Update::Nameless(wrong), Some((_, nameless))) => *nameless = Some(wrong),
            // Nothing is told before a list.
            (Update::Applied(_) | Update::Deleted(_) | Update::Nameless(_), None) => {}
            (update @ (Update::Trouble(_) | Update::Moved(_)), _) => return Some(update),
        }
        None
    }

    fn has(&self, id: &ObjectId) -> bool {
        let listed = self.listed.as_ref();
        listed.is_some_and(|(items, _)| items.contains_key(id))
    }
}

/// Four watches as one source.
#[derive(Clone, Debug)]
pub struct State {
    node: String,
    hasher: RandomState,
    kinds: BTreeMap<Resource, Kind>,
    /// What is known of another cluster. It counts when all kinds are listed and the node is there, and then at once:
    /// policies of the one and pods of the other together are nobody's.
    moving: BTreeMap<Resource, Listing>,
    /// Why the API server is not asked as it should.
    trouble: Option<String>,
    missing_rights: Option<String>,
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
            moving: BTreeMap::new(),
            trouble: None,
            missing_rights: None,
            is_complete: false,
            changes: BTreeMap::new(),
            problems: BTreeMap::new(),
            is_outdated: false,
            said: BTreeMap::new(),
        }
    }

    /// Takes what a watch says.
    pub fn take(&mut self, resource: Resource, update: Update) {
        match self.moving.get_mut(&resource) {
            Some(listing) => {
                if let Some(update) = listing.take(update) {
                    self.take_of_cluster(resource, update);
                }
                self.arrive();
            }
            None => self.take_of_cluster(resource, update),
        }
        if std::mem::take(&mut self.is_outdated) {
            self.name_problems();
        }
    }

    /// Takes why the API server is not asked as it should.
    pub fn take_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
        self.name_problems();
    }

    /// Takes what the account may not do.
    pub fn take_missing_rights(&mut self, missing: Option<String>) {
        self.missing_rights = missing;
        self.name_problems();
    }

    /// Puts another cluster in the place of the one before, if all of it is known.
    fn arrive(&mut self) {
        self.is_outdated = true;
        let mut moves = self.moving.values().map(|listing| listing.moves);
        let is_one = moves
            .next()
            .is_some_and(|first| moves.all(|of| of == first));
        let is_listed = |resource: &Resource| {
            let listing = self.moving.get(resource);
            listing.is_some_and(|listing| listing.listed.is_some())
        };
        if !is_one || !Resource::ALL.iter().all(is_listed) || !self.has_node() {
            return;
        }
        for (resource, listing) in std::mem::take(&mut self.moving) {
            if let Some((items, nameless)) = listing.listed {
                let items = items.into_values().collect();
                let update = Update::Listed(items, nameless.into_iter().collect());
                self.take_of_cluster(resource, update);
            }
        }
    }

    fn take_of_cluster(&mut self, resource: Resource, update: Update) {
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
            Update::Moved(moves) => {
                self.is_outdated = true;
                let listed = None;
                self.moving.insert(resource, Listing { moves, listed });
            }
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
        self.moving.is_empty() && self.kinds.values().all(|kind| kind.is_listed) && self.has_node()
    }

    /// Also one that is not valid is there: without its addresses the kernel knows which are this node's.
    fn has_node(&self) -> bool {
        let node = ObjectId::Node(self.node.clone());
        if let Some(listing) = self.moving.get(&Resource::Nodes) {
            return listing.has(&node);
        }
        let nodes = self.kinds.get(&Resource::Nodes);
        nodes.is_some_and(|of| of.known.contains_key(&node) || of.bad.contains_key(&node))
    }

    fn apply(&mut self, item: Item) {
        let Item { id, uid, read, .. } = item;
        let uid = self.hasher.hash_one(&uid);
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
                // What was good stays as it was, but not as another was that had the name.
                if before.is_some_and(|known| known.is_good && known.uid == uid) {
                    kind.bad.insert(id, message);
                    return;
                }
                kind.bad.insert(id.clone(), format!("{message}\n{effect}"));
                (stand_in, false)
            }
        };
        match object {
            Some(object) => {
                let digest = self.hasher.hash_one(&object);
                let known = Known {
                    digest,
                    uid,
                    is_good,
                };
                self.say(id, object, known);
            }
            None => self.unsay(&id),
        }
    }

    fn delete(&mut self, id: &ObjectId) {
        let kind = self.kinds.entry(Resource::of(id)).or_default();
        let was_bad = kind.bad.remove(id).is_some();
        self.is_outdated |= was_bad || matches!(id, ObjectId::Node(_));
        self.unsay(id);
    }

    fn say(&mut self, id: ObjectId, object: Object, known: Known) {
        let kind = self.kinds.entry(Resource::of(&id)).or_default();
        let before = kind.known.insert(id.clone(), known);
        if before.is_none_or(|before| before.digest != known.digest) {
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
        let mut lines: Vec<_> = self.trouble.iter().cloned().collect();
        if !self.moving.is_empty() {
            lines.push(
                "another one is to be asked than before: what is known stays in force until all of the other is listed"
                    .to_owned(),
            );
        }
        if !lines.is_empty() {
            let message = lines.join("\n");
            problems.insert(API_SERVER.to_owned(), Problem { message, blocks });
        }
        if let Some(message) = self.missing_rights.clone() {
            let blocks = false;
            problems.insert("rights".to_owned(), Problem { message, blocks });
        }
        for (resource, kind) in &self.kinds {
            let mut lines: Vec<_> = kind.trouble.iter().cloned().collect();
            let is_listed = match self.moving.get(resource) {
                Some(listing) => listing.listed.is_some(),
                None => blocks && kind.is_listed,
            };
            if *resource == Resource::Nodes && is_listed && !self.has_node() {
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
