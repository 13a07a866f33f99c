//! A thread that runs until it is no longer wanted.

use std::io;
use std::thread;

use tokio::sync::{oneshot, watch};

/// Ends with this value.
#[derive(Debug)]
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    alive: watch::Receiver<()>,
}

impl Running {
    /// Its sender is gone when the thread has failed.
    pub fn alive(&self) -> watch::Receiver<()> {
        self.alive.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was written.
            let _ = thread.join();
        }
    }
}

/// Starts a thread for this work, in the network namespace of the calling thread.
///
/// # Errors
/// There can be no thread.
pub(super) fn start<F: Future>(
    name: &str,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<Running> {
    let (stop, stopped) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (living, alive) = watch::channel(());
    let run = move || {
        let _living = living;
        runtime.block_on(async {
            tokio::select! {
                _ = work() => {}
                _ = stopped => {}
            }
        });
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(Running {
        stop: Some(stop),
        thread: Some(thread),
        alive,
    })
}
