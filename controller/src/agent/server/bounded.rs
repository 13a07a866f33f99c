//! Connections, of which only so many are open at once.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

/// The open connections, the oldest first. One more than there may be ends the oldest: an answer takes milliseconds, so
/// who has waited the longest is who does not ask, and however many such there are, they keep nobody out.
#[derive(Debug)]
pub(super) struct Bounded {
    most: usize,
    open: VecDeque<AbortHandle>,
}

impl Bounded {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: VecDeque::new(),
        }
    }

    /// Runs a connection until it ends, or is the oldest of too many.
    pub(super) fn spawn(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.open.retain(|open| !open.is_finished());
        while self.open.len() >= self.most {
            if let Some(oldest) = self.open.pop_front() {
                oldest.abort();
            }
        }
        let task = tokio::spawn(connection);
        self.open.push_back(task.abort_handle());
    }
}
