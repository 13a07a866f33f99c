//! Doing one thing to many items on a few threads: most of building a testbed is waiting for `ip`.

use std::sync::Mutex;

use crate::error::Error;

/// Calls `work` on each item and returns the results in the items' order, or the first failure in that order.
///
/// The threads end with the call, so that `work` may move its thread into a namespace.
pub(crate) fn map<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let width = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(items.len());
    let queue = Mutex::new(items.iter().enumerate());
    let take = || {
        queue
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .next()
    };
    let worker = || {
        std::iter::from_fn(take)
            .map(|(index, item)| (index, work(item)))
            .collect::<Vec<_>>()
    };
    let mut results = std::thread::scope(|scope| {
        let start = |_| {
            std::thread::Builder::new()
                .spawn_scoped(scope, worker)
                .map_err(Error::Thread)
        };
        let threads = (0..width).map(start).collect::<Result<Vec<_>, _>>()?;
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        Ok::<_, Error>(threads.into_iter().flat_map(join).collect::<Vec<_>>())
    })?;
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
