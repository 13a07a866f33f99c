//! What happens to the pods of a cluster: they come, go, get other labels and other addresses.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use controller::agent::source::Change;
use policy_compiler::index::{Object, ObjectId};

use crate::cluster::{APPS, LOCAL_PODS, Place, Size, State, id, pod, scattered};

/// One event of so many is about a pod of the agent's node.
const ONE_HERE_OF: usize = 20;
/// The first number of addresses that pods get later.
const NEW_ADDRESSES: usize = 0x40_0000;

/// Events without end. The same size gives the same ones.
#[derive(Debug)]
pub(crate) struct Churn {
    size: Size,
    here: Pods,
    elsewhere: Pods,
    /// How many numbers were drawn.
    drawn: usize,
    /// How many addresses were given.
    addresses: usize,
}

/// The pods of a place. The oldest go first.
#[derive(Debug)]
struct Pods {
    place: Place,
    present: Range<usize>,
    /// Those that are not as they came.
    changed: BTreeMap<usize, State>,
}

impl Churn {
    pub(crate) fn new(size: Size) -> Self {
        let pods = |place, count| Pods {
            place,
            present: 0..count,
            changed: BTreeMap::new(),
        };
        Self {
            size,
            here: pods(Place::Here, LOCAL_PODS),
            elsewhere: pods(Place::Elsewhere, size.elsewhere),
            drawn: 0,
            addresses: 0,
        }
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Change {
        let (is_here, what, which) = (
            self.draw(ONE_HERE_OF) == 0,
            self.draw(4),
            self.draw(1 << 40),
        );
        let size = self.size;
        let pods = match is_here {
            true => &mut self.here,
            false => &mut self.elsewhere,
        };
        let count = pods.present.len();
        match what {
            _ if count == 0 => pods.come(size),
            0 => pods.come(size),
            1 => pods.go(),
            2 => pods.change(size, which % count, |state| {
                state.app = (state.app + 1 + which % (APPS - 1)) % APPS;
            }),
            _ => {
                self.addresses += 1;
                let address = NEW_ADDRESSES + self.addresses;
                pods.change(size, which % count, |state| state.address = address)
            }
        }
    }

    /// How long until the next event, if there are so many in a second: any two may be close together.
    pub(crate) fn pause(&mut self, per_second: f64) -> Duration {
        let part = (self.draw(1 << 30) + 1) as f64 / f64::from(1 << 30);
        Duration::from_secs_f64(-part.ln() / per_second)
    }

    fn draw(&mut self, below: usize) -> usize {
        self.drawn += 1;
        scattered(self.drawn) % below
    }
}

impl Pods {
    fn come(&mut self, size: Size) -> Change {
        let number = self.present.end;
        self.present.end += 1;
        self.now(size, number)
    }

    fn go(&mut self) -> Change {
        let number = self.present.start;
        self.present.start += 1;
        self.changed.remove(&number);
        Change::Delete(ObjectId::Pod(id(self.place, number)))
    }

    fn change(&mut self, size: Size, which: usize, change: impl FnOnce(&mut State)) -> Change {
        let number = self.present.start + which;
        let state = self.changed.entry(number);
        change(state.or_insert_with(|| State::first(self.place, number)));
        self.now(size, number)
    }

    fn now(&self, size: Size, number: usize) -> Change {
        let state = self.changed.get(&number).copied();
        let state = state.unwrap_or_else(|| State::first(self.place, number));
        Change::Apply(Object::Pod(pod(size, self.place, number, state)))
    }
}
