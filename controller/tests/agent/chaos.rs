//! Everything at once: files change, break and move, the agent is killed, stopped and started, others flush the ruleset and
//! add rules. At each quiet point the kernel holds what a fresh compile of the files says.
//!
//! `PICKET_CHAOS_ROUNDS` and `PICKET_CHAOS_SEED` choose others; with `PICKET_CHAOS_SECONDS` it goes on for so long.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::life::random;
use crate::live::{Agent, Live};
use crate::manifests::{self, CHANGING, policy};

const ROUNDS: u64 = 8;
const DISTURBANCES: u32 = 10;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

struct Chaos<R> {
    live: Live,
    agent: Agent,
    random: R,
    /// Files that are broken now.
    broken: BTreeSet<String>,
    names: u32,
    done: Vec<String>,
}

impl<R: FnMut(u32) -> u32> Chaos<R> {
    fn new(arguments: &[&str], random: R) -> Self {
        let mut live = Live::new(arguments);
        for name in CHANGING {
            live.replace(&format!("pod-{name}.yaml"), &manifests::pod(name, "one"));
        }
        let agent = live.started();
        Self {
            live,
            agent,
            random,
            broken: BTreeSet::new(),
            names: 0,
            done: Vec::new(),
        }
    }

    fn new_policy(&mut self) -> String {
        self.names += 1;
        policy(&format!("p{}", self.names % 7), &mut self.random)
    }

    fn some_file(&mut self, prefix: &str) -> Option<String> {
        let files: Vec<_> = self
            .live
            .files
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        let at = (self.random)(files.len() as u32) as usize;
        files.get(at).cloned()
    }

    /// Each policy has a file of its own, since no object may be in two.
    fn put_policy(&mut self) -> (String, String) {
        let text = self.new_policy();
        (format!("policy-{}.yaml", self.names % 7), text)
    }

    fn disturb(&mut self) {
        let choice = (self.random)(14);
        self.done.push(choice.to_string());
        match choice {
            0..3 => {
                let (file, text) = self.put_policy();
                self.broken.remove(&file);
                self.live.replace(&file, &text);
            }
            3 => {
                if let Some(file) = self.some_file("policy-") {
                    self.broken.remove(&file);
                    self.live.remove(&file);
                }
            }
            4 | 5 => {
                let name = CHANGING[(self.random)(CHANGING.len() as u32) as usize];
                let file = format!("pod-{name}.yaml");
                match (self.random)(3) {
                    0 if self.live.files.contains_key(&file) => self.live.remove(&file),
                    1 => self.live.replace(&file, &manifests::pod(name, "one")),
                    _ => self.live.replace(&file, &manifests::pod(name, "two")),
                }
            }
            6 => self.write_in_halves(),
            7 => {
                if let Some(file) = self.some_file("policy-") {
                    fs::write(self.live.path(&file), "kind: [").unwrap();
                    self.broken.insert(file);
                }
            }
            8 => self.restart(Signal::SIGKILL),
            9 => self.restart(Signal::SIGTERM),
            10 => self.by_others("flush ruleset"),
            11 => self.by_others("insert rule inet picket ingress accept"),
            12 => self.by_others("flush chain inet picket egress"),
            _ => drop(
                self.live
                    .world
                    .node
                    .nft("add table inet other\ndelete table inet other"),
            ),
        }
        let pause = Duration::from_micros(u64::from((self.random)(20_000)));
        let until = Instant::now() + pause;
        while Instant::now() < until {
            std::thread::yield_now();
        }
    }

    /// In place, with a pause in the middle.
    fn write_in_halves(&mut self) {
        let (file, text) = self.put_policy();
        let mut open = File::create(self.live.path(&file)).unwrap();
        let (first, second) = text.split_at(text.len() / 2);
        open.write_all(first.as_bytes()).unwrap();
        let until = Instant::now() + Duration::from_millis(u64::from((self.random)(150)));
        while Instant::now() < until {
            std::thread::yield_now();
        }
        open.write_all(second.as_bytes()).unwrap();
        drop(open);
        self.broken.remove(&file);
        self.live.files.insert(file, text);
    }

    /// Tables belong to the agent as long as it lives: what others do between two agents nobody can hinder.
    fn by_others(&mut self, change: &str) {
        let agent = &self.agent;
        self.live.until("the agent has started", agent, |_| {
            agent.log().contains("started")
        });
        // Refused, where the tables are owned.
        drop(self.live.world.node.nft(change));
    }

    fn restart(&mut self, signal: Signal) {
        self.agent.signal(signal);
        self.agent.wait();
        self.agent = self.live.start();
    }

    /// All files are good, and the kernel holds what they say.
    fn settle(&mut self) {
        for file in std::mem::take(&mut self.broken) {
            let text = self.live.files[&file].clone();
            self.live.replace(&file, &text);
        }
        assert!(!self.agent.has_ended(), "{}", self.agent.log());
        self.live.quiet(&self.agent);
    }

    fn round(&mut self) {
        for _ in 0..DISTURBANCES {
            self.disturb();
        }
        self.settle();
    }
}

fn rounds(name: &str, mut round: impl FnMut()) {
    let end = setting("PICKET_CHAOS_SECONDS")
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let most = setting("PICKET_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    let mut count = 0;
    while end.map_or(count < most, |end| Instant::now() < end) {
        round();
        count += 1;
        if count % 100 == 0 {
            eprintln!("{name}: {count} rounds");
        }
    }
    eprintln!("{name}: {count} rounds");
}

fn seed() -> u64 {
    setting("PICKET_CHAOS_SEED").unwrap_or(1)
}

#[test]
fn nothing_denied_passes_and_nothing_allowed_breaks_in_chaos() {
    let mut chaos = Chaos::new(&[], random(seed()));
    rounds("owned tables", || {
        let flood = chaos.live.start_flood();
        chaos.round();
        drop(flood);
        chaos.live.check_flood(&chaos.done);
        chaos.done.clear();
    });
}

#[test]
fn tables_that_others_can_change_are_as_they_should_be_at_each_quiet_point() {
    let mut chaos = Chaos::new(&["--own-tables", "never"], random(seed() + 1));
    rounds("tables of anybody", || chaos.round());
}
