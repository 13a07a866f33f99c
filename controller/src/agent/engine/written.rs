//! What of troubles that come again and again is written to the log.

use std::collections::BTreeSet;

use tokio::time::Instant;
use tracing::warn;

use crate::agent::log::Repeated;

/// So many places are remembered. It is only about how much is written, so that all may be forgotten.
const REMEMBERED: usize = 1024;

/// Troubles by where they are. The same is written when it is new, and then less and less often, also where it ends in
/// between.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    messages: Repeated<(String, String)>,
    /// Where the last was not written. Its end is not either.
    silent: BTreeSet<String>,
}

impl Written {
    /// There is trouble; whether it is to be written.
    pub(super) fn comes(&mut self, place: &str, message: &str) -> bool {
        let key = (place.to_owned(), message.to_owned());
        let now = Instant::now().into_std();
        if self.messages.seen(&key, now).is_some() {
            self.silent.remove(place);
            return true;
        }
        if self.silent.len() >= REMEMBERED {
            self.silent.clear();
        }
        if self.silent.insert(place.to_owned()) {
            warn!(
                of = place,
                "this comes over and over, and is written less often now: picket status says how it is"
            );
        }
        false
    }

    /// There is none any more; whether that is to be written.
    pub(super) fn ends(&self, place: &str) -> bool {
        !self.silent.contains(place)
    }
}
