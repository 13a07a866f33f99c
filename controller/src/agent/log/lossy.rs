//! Lines that hold nobody up.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// So many lines wait at most, a megabyte or two.
const LINES: usize = 8192;
/// How long the end waits for them at most.
const END: Duration = Duration::from_secs(2);

/// Waits a moment, when it is dropped, until all lines are written.
#[derive(Debug)]
#[must_use]
pub struct Flush(Option<WorkerGuard>);

/// Writes lines to `to` on a thread of its own.
/// `note` hears of how many were lost, when there is room again.
pub(super) fn writer(
    to: impl Write + Send + 'static,
    note: impl FnMut(usize) + Send + 'static,
) -> (NonBlocking, Flush) {
    // The counter is known only when the thread runs already.
    let (sender, counter) = mpsc::channel();
    let noting = Noting {
        to,
        note,
        counter,
        known: None,
        noted: 0,
    };
    let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES);
    let (writer, guard) = builder.lossy(true).finish(noting);
    // It is gone only if the thread is.
    let _ = sender.send(writer.error_counter());
    (writer, Flush(Some(guard)))
}

impl Drop for Flush {
    fn drop(&mut self) {
        let guard = self.0.take();
        let (done, end) = mpsc::channel::<()>();
        // The guard itself writes to stdout if it can not wait any longer, which may be the same pipe.
        let flush = move || {
            drop(guard);
            drop(done);
        };
        if thread::Builder::new().spawn(flush).is_ok() {
            // Done or not.
            let _ = end.recv_timeout(END);
        }
    }
}

/// Says how many lines were lost.
struct Noting<W, N> {
    to: W,
    note: N,
    counter: mpsc::Receiver<ErrorCounter>,
    known: Option<ErrorCounter>,
    noted: usize,
}

impl<W: Write, N: FnMut(usize)> Write for Noting<W, N> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.known.is_none() {
            self.known = self.counter.try_recv().ok();
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let lost = self.known.as_ref().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.noted {
            (self.note)(lost - self.noted);
            self.noted = lost;
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes lines once somebody reads.
    struct Pipe {
        reads: mpsc::Receiver<()>,
        written: Arc<Mutex<usize>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Until the other end is closed.
            let _ = self.reads.recv();
            *self.written.lock().expect("no panic") += 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted() {
        let (read, reads) = mpsc::channel();
        let (written, lost) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let pipe = Pipe {
            reads,
            written: Arc::clone(&written),
        };
        let noted = Arc::clone(&lost);
        let note = move |count| *noted.lock().expect("no panic") += count;
        let (mut writer, flush) = super::writer(pipe, note);
        for _ in 0..2 * LINES {
            writer.write_all(b"line").expect("it never fails");
        }
        drop(read);
        drop(flush);
        let (written, lost) = (
            written.lock().expect("no panic"),
            lost.lock().expect("no panic"),
        );
        assert_eq!(*written + *lost, 2 * LINES);
        assert!(*written >= LINES && *lost > 0, "{written} {lost}");
    }
}
