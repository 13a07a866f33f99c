//! A stand-in for the agent that answers as it is told.

use std::io::{BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, thread};

use cni_chain::attachment::{Path, Records};
use cni_chain::protocol::{self, Answer, Request};
use cni_chain::quarantine::ACTIVE;
use kernel::{Links, NetworkNamespace};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{Node, PATIENCE};

/// What it does with a request.
pub(crate) enum Manner {
    /// What an agent does: it takes the attachment into force.
    Healthy,
    /// The same, when it is told to.
    Slow(Receiver<()>),
    /// It closes so many connections without an answer, and is healthy then.
    Restarts(u32),
    /// It says so many times that it is not ready, and is healthy then.
    NotYet(u32),
    /// It says these bytes, and closes.
    Says(Vec<u8>),
    /// It says bytes without an end.
    Endless,
    /// It always says a little more.
    Dripping,
    /// It never says anything.
    Silent,
}

/// It goes with its socket.
pub(crate) struct Agent {
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    socket: std::path::PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    pub(crate) fn start(node: &Node, manner: Manner) -> Self {
        fs::create_dir_all(node.run_dir()).expect("made");
        let socket = protocol::socket(&node.run_dir());
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("bound");
        let (requests, stop) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let mut worker = Worker {
            manner,
            records: node.records(),
            links: node.links(),
            requests: requests.clone(),
            stop: stop.clone(),
            kept: Vec::new(),
        };
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if worker.stop.load(Ordering::SeqCst) {
                    return;
                }
                worker.serve(stream);
            }
        });
        Self {
            requests,
            stop,
            socket,
            thread: Some(thread),
        }
    }

    /// One that is healthy when it is told to be.
    pub(crate) fn slow(node: &Node) -> (Self, Sender<()>) {
        let (sender, receiver) = channel();
        (Self::start(node, Manner::Slow(receiver)), sender)
    }

    /// One that says an answer.
    pub(crate) fn answers(node: &Node, answer: &Answer) -> Self {
        Self::start(node, Manner::Says(protocol::line(answer).expect("short")))
    }

    /// A socket on which nobody listens any more.
    pub(crate) fn dead(node: &Node) {
        fs::create_dir_all(node.run_dir()).expect("made");
        let socket = protocol::socket(&node.run_dir());
        let _ = fs::remove_file(&socket);
        drop(UnixListener::bind(socket).expect("bound"));
    }

    /// One that accepts nobody, for as long as the connections are there that wait for it.
    pub(crate) fn full(node: &Node) -> (UnixListener, Vec<OwnedFd>) {
        fs::create_dir_all(node.run_dir()).expect("made");
        let path = protocol::socket(&node.run_dir());
        let listener = UnixListener::bind(&path).expect("bound");
        let address = UnixAddr::new(&path).expect("short");
        let mut waiting = Vec::new();
        loop {
            let flags = SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None);
            let socket = socket.expect("a socket");
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => waiting.push(socket),
                Err(Errno::EAGAIN) => return (listener, waiting),
                Err(errno) => panic!("{errno}"),
            }
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("whole").clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("the agent did not fail");
            }
        }
    }
}

struct Worker {
    manner: Manner,
    records: Records,
    links: Links,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    /// Connections that stay open without an answer.
    kept: Vec<UnixStream>,
}

impl Worker {
    fn serve(&mut self, mut stream: UnixStream) {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        // A plugin that was stopped may have sent nothing.
        let Ok(request) = protocol::read::<Request>(BufReader::new(&stream)) else {
            return;
        };
        self.requests.lock().expect("whole").push(request.clone());
        let not_yet = Answer::NotYet {
            message: "the agent is starting".into(),
            details: "its source is not complete".into(),
        };
        let answer = match &mut self.manner {
            Manner::Healthy => self.healthy(&request),
            Manner::Slow(told) => {
                told.recv().expect("told");
                self.healthy(&request)
            }
            Manner::Restarts(0) | Manner::NotYet(0) => self.healthy(&request),
            Manner::Restarts(times) => {
                *times -= 1;
                return;
            }
            Manner::NotYet(times) => {
                *times -= 1;
                not_yet
            }
            Manner::Says(bytes) => {
                let _ = stream.write_all(bytes);
                return;
            }
            Manner::Endless => {
                while stream.write_all(&[b' '; 4096]).is_ok() {}
                return;
            }
            Manner::Dripping => {
                while stream.write_all(b" ").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
                return;
            }
            Manner::Silent => return self.kept.push(stream),
        };
        let _ = stream.write_all(&protocol::line(&answer).expect("short"));
    }

    fn healthy(&mut self, request: &Request) -> Answer {
        match request {
            Request::Attach { id, .. } => {
                let record = self
                    .records
                    .read(id)
                    .expect("read")
                    .expect("it is there first");
                match record.path {
                    Path::Routed { index, .. } | Path::Bridged { index, .. } => {
                        activate(&mut self.links, index);
                    }
                    Path::Bypass { index, .. } => {
                        let (path, inode) = (&record.netns, record.netns_inode);
                        let namespace = NetworkNamespace::open_numbered(path, inode);
                        let inside = namespace.expect("opened").inside();
                        activate(&mut inside.expect("entered").links, index);
                    }
                }
                Answer::Ready
            }
            Request::Detach { id } => {
                assert_eq!(
                    self.records.read(id).expect("read"),
                    None,
                    "it is gone first"
                );
                Answer::Gone
            }
            Request::Check { .. } | Request::Status => Answer::Ready,
        }
    }
}

fn activate(links: &mut Links, index: u32) {
    let link = links.by_index(index).expect("asked").expect("there");
    if cni_chain::quarantine::is_ours(link.group) {
        links.set_group(&link, ACTIVE).expect("set");
    }
}
