//! The kernel's nftables as the engine sees them: so little that tests can stand in for it.

use std::future::Future;

use kernel::{Error, Event, Found, Generation, Halted, Nftables, Object, Watch};
use policy_compiler::delta::Plan;
use policy_compiler::ruleset::Ruleset;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes for events that were not read yet. Each element of a first load is one.
const EVENTS: usize = 32 << 20;

/// Holds our tables, and hears of others who change them.
pub trait Enforcer: Send {
    /// Our tables, all of one generation.
    ///
    /// # Errors
    /// As [`Nftables::read_watched`].
    fn read(&mut self) -> Result<Found, Error>;

    /// Takes out what was read and not understood.
    ///
    /// # Errors
    /// As [`Nftables::remove_unknown`].
    fn remove_unknown(&mut self, found: &Found) -> Result<Generation, Error>;

    /// Carries a plan out.
    ///
    /// # Errors
    /// As [`Nftables::execute`].
    fn execute(&mut self, plan: &Plan) -> Result<Generation, Halted>;

    /// Makes the ruleset what our tables hold, whatever they hold.
    ///
    /// # Errors
    /// As [`Nftables::replace`].
    fn replace(&mut self, ruleset: &Ruleset) -> Result<Generation, Error>;

    /// Removes what an interrupted replacement left.
    ///
    /// # Errors
    /// As [`Nftables::remove_stand_in`].
    fn remove_stand_in(&mut self) -> Result<Generation, Error>;

    /// What others changed of our tables since the last call.
    ///
    /// # Errors
    /// As [`Watch::events`].
    fn foreign_changes(&mut self) -> Result<Foreign, Error>;

    /// Waits until there may be such changes. Dropping the future loses nothing.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// What others changed of our tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Nothing. If others changed what is theirs, or we did, our tables are as they were in this generation.
    Nothing(Option<Generation>),
    /// These objects.
    Objects {
        /// What, in the order in which it was heard of; only the first few.
        objects: Vec<Object>,
        /// The name of the program that did it, where the kernel says so.
        program: Option<String>,
    },
    /// Perhaps something: events were lost.
    Unknown,
}

/// How many objects of a change are remembered, for people to read.
const REMEMBERED: usize = 5;

/// nftables of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Kernel {
    nftables: Nftables,
    watch: AsyncFd<Watch>,
}

impl Kernel {
    /// Opens the sockets in the network namespace of the calling thread, within a runtime.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        Self::with(Nftables::open)
    }

    /// The same, but the tables belong to this: others can not change them.
    ///
    /// # Errors
    /// As [`Nftables::open_owner`].
    pub fn open_owner() -> Result<Self, Error> {
        Self::with(Nftables::open_owner)
    }

    fn with(open: impl FnOnce() -> Result<Nftables, Error>) -> Result<Self, Error> {
        // First: what happens after it was opened is heard of.
        let watch = Watch::open(EVENTS)?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe to call, and the watch owns its descriptor"
        )]
        let mut watch = AsyncFd::with_interest(watch, Interest::READABLE).map_err(Error::Open)?;
        let nftables = open()?;
        watch.get_mut().ignore(nftables.port());
        Ok(Self { nftables, watch })
    }
}

impl Enforcer for Kernel {
    fn read(&mut self) -> Result<Found, Error> {
        self.nftables.read_watched(self.watch.get_mut())
    }

    fn remove_unknown(&mut self, found: &Found) -> Result<Generation, Error> {
        self.nftables.remove_unknown(found)
    }

    fn execute(&mut self, plan: &Plan) -> Result<Generation, Halted> {
        self.nftables.execute(plan, Some(self.watch.get_mut()))
    }

    fn replace(&mut self, ruleset: &Ruleset) -> Result<Generation, Error> {
        self.nftables.replace(ruleset)
    }

    fn remove_stand_in(&mut self) -> Result<Generation, Error> {
        self.nftables.remove_stand_in()
    }

    fn foreign_changes(&mut self) -> Result<Foreign, Error> {
        let own = self.nftables.port();
        let events = self.watch.get_mut().events()?;
        Ok(foreign(events, own))
    }

    async fn changed(&self) {
        // An error of the descriptor is one of its next reading too.
        if let Ok(mut ready) = self.watch.readable().await {
            // Whoever is woken reads all there is.
            ready.clear_ready();
        }
    }
}

fn foreign(events: Vec<Event>, own: u32) -> Foreign {
    let (mut objects, mut program, mut pending, mut last) = (Vec::new(), None, false, None);
    for event in events {
        match event {
            Event::Overrun => return Foreign::Unknown,
            Event::Object { object, port, .. } if port != own => {
                pending = true;
                if objects.len() < REMEMBERED {
                    objects.push(object);
                }
            }
            Event::Object { .. } => {}
            Event::Generation {
                name, generation, ..
            } => {
                last = Some(generation);
                if std::mem::take(&mut pending) && program.is_none() {
                    program = name;
                }
            }
        }
    }
    match objects.is_empty() {
        true => Foreign::Nothing(last),
        false => Foreign::Objects { objects, program },
    }
}

#[cfg(test)]
mod tests {
    use policy_compiler::ruleset::TableFamily;

    use super::*;

    #[test]
    fn only_what_others_changed_is_told_and_by_whom() {
        let object = |port| Event::Object {
            object: Object::Table(TableFamily::Inet),
            deleted: true,
            port,
        };
        let end = |number, port, name: &str| Event::Generation {
            generation: Generation(number),
            port,
            process: None,
            name: Some(name.to_owned()),
        };
        let own = || vec![object(7), end(2, 7, "picket"), end(3, 9, "other")];
        assert_eq!(foreign(own(), 7), Foreign::Nothing(Some(Generation(3))));
        assert_eq!(foreign(vec![], 7), Foreign::Nothing(None));
        let events = [own(), vec![object(8), end(4, 8, "nft")]].concat();
        let expected = Foreign::Objects {
            objects: vec![Object::Table(TableFamily::Inet)],
            program: Some("nft".to_owned()),
        };
        assert_eq!(foreign(events, 7), expected);
        let lost = [vec![object(8)], vec![Event::Overrun]].concat();
        assert_eq!(foreign(lost, 7), Foreign::Unknown);
    }
}
