//! Everything at once: objects change, the API server and its store are killed or stand still, the agent is killed and
//! stopped, others flush the ruleset. At each quiet point the kernel holds what a fresh compile of the objects says.
//!
//! `PICKET_CHAOS_ROUNDS` and `PICKET_CHAOS_SEED` choose others; with `PICKET_CHAOS_SECONDS` it goes on for so long.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::api_server::{ApiServer, Program};
use crate::cluster::Cluster;
use crate::live::Agent;
use crate::manifests::{CHANGING, pod, policy};
use crate::restarts::{full, random, setting};

const ROUNDS: u32 = 3;
const DISTURBANCES: u32 = 8;

struct Chaos<R> {
    cluster: Cluster,
    agent: Agent,
    random: R,
    done: Vec<String>,
}

impl<R: FnMut(u32) -> u32> Chaos<R> {
    fn disturb(&mut self) {
        let choice = (self.random)(12);
        self.done.push(choice.to_string());
        match choice {
            0..3 => {
                let name = format!("p{}", (self.random)(5));
                let text = policy(&name, &mut self.random);
                self.cluster.put(&format!("policy-{name}"), &text);
            }
            3 => {
                let name = format!("policy-p{}", (self.random)(5));
                self.remove(&name);
            }
            4..7 => {
                let name = CHANGING[(self.random)(CHANGING.len() as u32) as usize];
                let file = format!("pod-{name}");
                match (self.random)(3) {
                    0 => self.remove(&file),
                    1 => self.cluster.put(&file, &pod(name, "one")),
                    _ => self.cluster.put(&file, &pod(name, "two")),
                }
            }
            7 => self.restart_agent(Signal::SIGKILL),
            8 => self.restart_agent(Signal::SIGTERM),
            9 => self.interrupt(Program::ApiServer, ApiServer::kill),
            10 => self.interrupt(Program::Etcd, ApiServer::kill),
            _ => {
                // Refused, since the tables are owned; but between two agents nobody can hinder it.
                let log = self.agent.log();
                if log.contains("started") {
                    drop(self.cluster.live.world.node.nft("flush ruleset"));
                }
            }
        }
        self.pause(20_000);
    }

    fn remove(&mut self, name: &str) {
        if self.cluster.live.files.contains_key(name) {
            self.cluster.remove(name);
        }
    }

    fn restart_agent(&mut self, signal: Signal) {
        self.agent.signal(signal);
        self.agent.wait();
        self.agent = self.cluster.start();
    }

    /// Of what is written meanwhile the API server knows nothing, so nothing is.
    fn interrupt(&mut self, program: Program, end: fn(&mut ApiServer, Program)) {
        end(&mut self.cluster.server, program);
        self.pause(500_000);
        self.cluster.server.run(program);
        let is_ready = |cluster: &mut Cluster| cluster.server.is_ready(Program::ApiServer);
        self.cluster
            .until("the API server has its store", &self.agent, is_ready);
    }

    /// For up to so many microseconds, that things happen in the middle of others.
    fn pause(&mut self, most: u32) {
        let end = Instant::now() + Duration::from_micros(u64::from((self.random)(most)));
        while Instant::now() < end {
            std::thread::yield_now();
        }
    }

    fn round(&mut self) {
        let flood = self.cluster.live.start_flood();
        for _ in 0..DISTURBANCES {
            self.disturb();
        }
        assert!(!self.agent.has_ended(), "{}", self.agent.log());
        self.cluster.quiet(&self.agent);
        drop(flood);
        self.cluster.live.check_flood(&self.done);
        self.done.clear();
    }
}

#[test]
fn nothing_denied_passes_and_nothing_allowed_breaks_in_chaos() {
    let (cluster, agent) = full();
    let mut chaos = Chaos {
        cluster,
        agent,
        random: random(setting("PICKET_CHAOS_SEED").unwrap_or(7)),
        done: Vec::new(),
    };
    let seconds = setting("PICKET_CHAOS_SECONDS").map(u64::from);
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let most = setting("PICKET_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    let mut count = 0;
    while end.map_or(count < most, |end| Instant::now() < end) {
        chaos.round();
        count += 1;
    }
    eprintln!("{count} rounds");
}
