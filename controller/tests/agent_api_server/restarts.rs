//! While the API server or its store is away, and when they come again, no packet passes that may not, and none is lost
//! that may.
//!
//! `PICKET_OUTAGE_SECONDS` says how long the long outage is.

use std::time::{Duration, Instant};

use crate::api_server::{ApiServer, Program};
use crate::cluster::Cluster;
use crate::live::Agent;
use crate::manifests::{CHANGING, pod, policy};

/// Numbers that are the same each time.
pub(crate) fn random(mut state: u32) -> impl FnMut(u32) -> u32 {
    move |below| {
        // xorshift32, Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below.max(1)
    }
}

pub(crate) fn full() -> (Cluster, Agent) {
    let mut cluster = Cluster::new();
    for (index, name) in CHANGING.iter().enumerate() {
        let group = if index % 2 == 0 { "one" } else { "two" };
        cluster.put(&format!("pod-{name}"), &pod(name, group));
    }
    cluster.put("policy", &policy("p", &mut random(1)));
    let agent = cluster.started();
    (cluster, agent)
}

/// A number that the environment has.
pub(crate) fn setting(name: &str) -> Option<u32> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

type End = fn(&mut ApiServer, Program);

/// What ends, in this order, and how.
const ENDS: [(&[Program], End); 4] = [
    (&[Program::ApiServer], ApiServer::stop),
    (&[Program::ApiServer], ApiServer::kill),
    (&[Program::Etcd], ApiServer::kill),
    (&[Program::ApiServer, Program::Etcd], ApiServer::kill),
];

#[test]
fn an_api_server_and_a_store_that_end_and_start_again_open_nothing_and_lose_nothing() {
    let (mut cluster, agent) = full();
    let mut random = random(2);
    let flood = cluster.live.start_flood();
    for (programs, end) in ENDS {
        for &program in programs {
            end(&mut cluster.server, program);
        }
        assert!(cluster.is_ready() && cluster.lives(), "{}", agent.log());
        assert!(cluster.live.held() == cluster.live.wanted());
        for &program in programs.iter().rev() {
            cluster.server.run(program);
        }
        cluster.until("the API server has its store", &agent, |cluster| {
            cluster.server.is_ready(Program::ApiServer)
        });
        assert!(cluster.live.held() == cluster.live.wanted());
        follows(&mut cluster, &agent, &mut random);
    }
    drop(flood);
    cluster.live.check_flood(&[]);
}

/// Changes of every kind that the flood is not about.
fn follows(cluster: &mut Cluster, agent: &Agent, random: &mut impl FnMut(u32) -> u32) {
    cluster.put("policy", &policy("p", random));
    cluster.quiet(agent);
    cluster.remove("pod-b");
    cluster.quiet(agent);
    cluster.put("pod-b", &pod("b", "two"));
    cluster.quiet(agent);
}

/// As long as retries need to reach their longest pauses, if nobody says otherwise.
const OUTAGE: u32 = 20;

#[test]
fn without_an_api_server_and_a_store_for_long_what_is_in_force_stays_and_is_repaired() {
    let (mut cluster, agent) = full();
    let outage = Duration::from_secs(setting("PICKET_OUTAGE_SECONDS").unwrap_or(OUTAGE).into());
    let programs = [Program::ApiServer, Program::Etcd];
    for program in programs {
        cluster.server.kill(program);
    }
    let end = Instant::now() + outage;
    let mut rounds = 0;
    let look = |cluster: &mut Cluster, agent: &Agent, seconds| {
        let until = end.min(Instant::now() + Duration::from_secs(seconds));
        while Instant::now() < until {
            assert!(cluster.is_ready(), "{}", agent.log());
            assert!(cluster.live.held() == cluster.live.wanted());
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    while Instant::now() < end {
        let flood = cluster.live.start_flood();
        look(&mut cluster, &agent, 5);
        drop(flood);
        cluster
            .live
            .check_flood(&[format!("after {rounds} rounds")]);
        rounds += 1;
        // The flood takes half a processor.
        look(&mut cluster, &agent, 40);
        drop(cluster.live.world.node.nft("flush ruleset"));
        cluster.until("what others flushed is there", &agent, |cluster| {
            cluster.live.held() == cluster.live.wanted()
        });
    }
    eprintln!("{rounds} rounds in {outage:?}");
    for program in programs.into_iter().rev() {
        cluster.server.run(program);
    }
    let flood = cluster.live.start_flood();
    follows(&mut cluster, &agent, &mut random(5));
    drop(flood);
    cluster.live.check_flood(&[]);
}

#[test]
fn an_api_server_that_stands_still_for_a_while_opens_nothing_and_loses_nothing() {
    let (mut cluster, agent) = full();
    let flood = cluster.live.start_flood();
    cluster.server.freeze(Program::ApiServer);
    assert!(cluster.is_ready() && cluster.lives(), "{}", agent.log());
    assert!(cluster.live.held() == cluster.live.wanted());
    cluster.server.thaw(Program::ApiServer);
    follows(&mut cluster, &agent, &mut random(4));
    drop(flood);
    cluster.live.check_flood(&[]);
}

#[test]
fn an_agent_that_starts_without_an_api_server_keeps_what_is_in_force_until_there_is_one() {
    let (mut cluster, agent) = full();
    let flood = cluster.live.start_flood();
    cluster.server.kill(Program::ApiServer);
    agent.kill();
    let agent = cluster.start();
    cluster.until("it says what it waits for", &agent, |cluster| {
        let (_, status) = cluster.status();
        status.contains("the API server cannot be reached")
    });
    assert!(cluster.lives() && !cluster.is_ready());
    assert!(cluster.live.held() == cluster.live.wanted());
    cluster.server.run(Program::ApiServer);
    cluster.put("policy", &policy("p", &mut random(3)));
    cluster.until("it is ready", &agent, |cluster| cluster.is_ready());
    cluster.quiet(&agent);
    drop(flood);
    cluster.live.check_flood(&[]);
}
