//! What is run in a cluster to install, prove and remove: commands of hooks and of pods that only wait.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "support/api_server/mod.rs"]
mod api_server;
#[path = "operate/selftest.rs"]
mod selftest;
mod support;
#[path = "operate/uninstall.rs"]
mod uninstall;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::Namespace;

pub(crate) const PICKET: &str = env!("CARGO_BIN_EXE_picket");

/// A command that runs, killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(namespace: &Namespace, arguments: &[&str]) -> Self {
        let mut command = Command::new(PICKET);
        command.args(arguments).stdout(Stdio::piped());
        // As in a pod: nobody has a home.
        command.env_remove("HOME").env_remove("KUBECONFIG");
        let mut child = namespace.run(|| command.spawn()).unwrap().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What it says next; nothing at the end.
    pub(crate) fn says(&mut self) -> Option<String> {
        self.lines.next().map(Result::unwrap)
    }

    /// All that it says until it ends, and its exit code.
    pub(crate) fn ends(mut self) -> (Vec<String>, Option<i32>) {
        let said = self.lines.by_ref().map(Result::unwrap).collect();
        (said, self.child.wait().unwrap().code())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn namespace() -> Namespace {
    let namespace = Namespace::new().expect("these tests need root");
    namespace.ip(&["link", "set", "lo", "up"]).unwrap();
    namespace
}

/// As the first process of a container, which no signal ends by itself.
#[test]
fn idle_and_probe_end_when_they_are_told_to() {
    let namespace = namespace();
    for (arguments, says) in [
        (&["idle"][..], "nothing to do"),
        (
            &["probe", "listen", "--port", "8080"],
            "listening on port 8080",
        ),
    ] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut running = Running::start(&namespace, arguments);
            assert!(running.says().unwrap().contains(says));
            running.signal(signal);
            assert_eq!(running.ends(), (vec![], Some(0)), "{arguments:?}");
        }
    }
}

#[test]
fn a_probe_answers_over_both_families_again_and_again() {
    let namespace = namespace();
    let mut running = Running::start(&namespace, &["probe", "listen", "--port", "8080"]);
    running.says().unwrap();
    let ask = |to: &str| {
        let stream = std::net::TcpStream::connect(to).unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    for to in ["127.0.0.1:8080", "[::1]:8080", "127.0.0.1:8080"] {
        assert_eq!(namespace.run(|| ask(to)).unwrap(), "picket probe\n", "{to}");
    }
    let mut second = Running::start(&namespace, &["probe", "listen", "--port", "8080"]);
    assert_eq!(second.says(), None);
    assert_eq!(second.ends().1, Some(2));
}
