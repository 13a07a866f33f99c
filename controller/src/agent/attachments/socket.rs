//! The socket at which the plugin asks ([`cni_chain::protocol`]): a connection carries one request and its answer.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cni_chain::attachment::{AttachmentId, Records};
use cni_chain::protocol::{self, Answer, LINE_LIMIT, Request};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time;

use super::Passage;
use super::gate::Passages;
use crate::agent::error::describe;
use crate::agent::metrics::Metrics;
use crate::agent::server::open;
use crate::agent::snapshot::Snapshot;

/// Requests at once: as many pods as a node has at most. More wait until one is answered.
const CONNECTIONS: usize = 256;

/// Time for a request to be written, and for its answer to be read.
const IO: Duration = Duration::from_secs(2);

/// The longest that an answer is waited for.
const LONGEST: Duration = Duration::from_secs(120);

/// After an error of accept(2), as without free file descriptors: long enough not to spin.
const PAUSE: Duration = Duration::from_millis(100);

/// What answers are made of.
#[derive(Clone)]
pub(super) struct Answers {
    records: Arc<Records>,
    passages: watch::Receiver<Arc<Passages>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// How often somebody has asked.
    asks: watch::Sender<u64>,
    metrics: Metrics,
}

/// Answers as long as this is polled; tries again if there can be no socket.
pub(super) async fn serve(run_dir: &Path, answers: &Answers) -> Infallible {
    let path = protocol::socket(run_dir);
    let what = format!("the socket {}", path.display());
    let remedy = "until then no pod starts whose network has picket-cni in its chain";
    let listener = open(&what, remedy, || async { bind(&path) }).await;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = answers.clone();
                tokio::spawn(async move {
                    connection(answers, stream).await;
                    drop(place);
                });
            }
            Err(_) => time::sleep(PAUSE).await,
        }
    }
}

/// Listens at the path in place of an agent before this one: the directory is held by this process.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // The directory lets nobody else in until then.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn connection(answers: Answers, stream: UnixStream) {
    let is_root = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0);
    let (input, mut output) = stream.into_split();
    let answer = match time::timeout(IO, request(BufReader::new(input))).await {
        Ok(Ok(_)) | Ok(Err(_)) if !is_root => {
            refused(4, "only root may ask", "run the plugin as root")
        }
        Ok(Ok(request)) => answers.answer(request).await,
        Ok(Err(error)) => refused(6, "the request is not understood", &error),
        Err(_) => return,
    };
    if let Ok(line) = protocol::line(&answer) {
        // Who does not read the answer asks again.
        let _ = time::timeout(IO, output.write_all(&line)).await;
    }
}

async fn request(input: impl AsyncBufReadExt + Unpin) -> Result<Request, String> {
    let mut line = Vec::new();
    let mut limited = input.take(LINE_LIMIT as u64);
    limited
        .read_until(b'\n', &mut line)
        .await
        .map_err(|error| error.to_string())?;
    protocol::read(line.as_slice()).map_err(|error| describe(&error))
}

fn refused(code: u32, message: &str, details: &str) -> Answer {
    Answer::Refused {
        code,
        message: message.to_owned(),
        details: details.to_owned(),
    }
}

impl Answers {
    pub(super) fn new(
        run_dir: &Path,
        passages: watch::Receiver<Arc<Passages>>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        asks: watch::Sender<u64>,
        metrics: Metrics,
    ) -> Self {
        let records = Arc::new(Records::new(run_dir));
        Self {
            records,
            passages,
            snapshots,
            asks,
            metrics,
        }
    }

    async fn answer(self, request: Request) -> Answer {
        let (start, command) = (Instant::now(), (&request).into());
        let metrics = self.metrics.clone();
        let answer = self.ask(request).await;
        metrics.cni_answered(command, (&answer).into(), start.elapsed());
        answer
    }

    async fn ask(mut self, request: Request) -> Answer {
        match request {
            Request::Attach {
                id,
                wait_milliseconds,
            } => {
                let wait = Duration::from_millis(wait_milliseconds).min(LONGEST);
                let mut count = 0;
                self.asks.send_modify(|asks| {
                    *asks += 1;
                    count = *asks;
                });
                match time::timeout(wait, self.passes(&id, count)).await {
                    Ok(answer) => answer,
                    Err(_) => self.passage(&id, count),
                }
            }
            Request::Check { id } => self.passage(&id, 0),
            // The record's end is heard of by itself.
            Request::Detach { .. } => Answer::Gone,
            Request::Status if self.snapshots.borrow().ready => Answer::Ready,
            Request::Status => Answer::NotYet {
                message: "the agent has nothing in force yet".to_owned(),
                details: "see `picket status`".to_owned(),
            },
        }
    }

    /// Until the interface passes or is refused, as it is after so many have asked.
    async fn passes(&mut self, id: &AttachmentId, asked: u64) -> Answer {
        loop {
            self.passages.borrow_and_update();
            let answer = self.passage(id, asked);
            if !matches!(answer, Answer::NotYet { .. }) || self.passages.changed().await.is_err() {
                return answer;
            }
        }
    }

    /// As it is now, for the record as it is now.
    fn passage(&self, id: &AttachmentId, asked: u64) -> Answer {
        let record = match self.records.read(id) {
            Ok(Some(record)) => record,
            Ok(None) => {
                return refused(
                    3,
                    &format!("there is no record of {id}"),
                    "the plugin writes it before it asks",
                );
            }
            Err(error) => return refused(5, "the record can not be read", &describe(&error)),
        };
        let not_yet = |details: String| Answer::NotYet {
            message: "the policies of this pod are not in the kernel yet".to_owned(),
            details,
        };
        let passages = self.passages.borrow();
        match passages.all.get(id).filter(|_| passages.asked >= asked) {
            // What was known of one before it says nothing.
            Some((known, passage))
                if known.netns_inode == record.netns_inode
                    && known.addresses == record.addresses =>
            {
                match passage {
                    Passage::Open => Answer::Ready,
                    Passage::Waits(why) => not_yet(why.clone()),
                    Passage::Refused { message, details } => refused(7, message, details),
                }
            }
            _ => not_yet("its record is about to be seen".to_owned()),
        }
    }
}
