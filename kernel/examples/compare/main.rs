//! How much faster netlink is than nft and its library, on this machine and now:
//! `cargo run --release -p kernel --example compare`.
//!
//! In each round all make the same change, each to tables of the same content in a namespace of its own, and what is
//! printed is the median of the rounds' ratios, with the middle half of them. Times are of this machine; ratios carry
//! further. `compare memory` prints the most memory that loading the whole table took.

mod peers;

use std::error::Error;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::{Elements, Nftables, Operation};
use nix::sys::resource::{UsageWho, getrusage};
use peers::{Change, Library, Nft, NftJson, Peer};
use policy_compiler::render;
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, KeyType, MapElement, Match, Rule, Ruleset, Set, TABLE, Table,
    TableFamily, Value, Verdict, VerdictMap,
};
use testbed::Namespace;

const KEY: &[KeyType] = &[KeyType::Ipv4Address];
const ELEMENTS: u32 = 100_000;
const CHAINS: u32 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => speed(),
        [memory] if memory == "memory" => memory_of_all(),
        [memory, who] if memory == "memory" => memory_of(who),
        _ => Err("usage: compare [memory]".into()),
    }
}

fn speed() -> Result<(), Box<dyn Error>> {
    let ours = Namespace::new()?;
    let mut nftables = ours.run(Nftables::open)??;
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(Nft(Namespace::new()?)),
        Box::new(NftJson(Namespace::new()?)),
    ];
    match Library::start() {
        Ok(library) => peers.push(Box::new(library)),
        Err(error) => println!("libnftables is not measured: {error}"),
    }
    whole_table(&mut nftables, &mut peers)?;
    elements(&mut nftables, &mut peers, 1, 31)?;
    elements(&mut nftables, &mut peers, 1_000, 15)
}

/// Loads the whole table, which stays.
fn whole_table(nftables: &mut Nftables, peers: &mut [Box<dyn Peer>]) -> Result<(), Box<dyn Error>> {
    const ROUNDS: u32 = 7;
    let ruleset = ruleset();
    let load = Change {
        text: render::text(&ruleset),
        json: render::json(&ruleset)?.to_string(),
    };
    let delete = Change {
        text: format!("delete table inet {TABLE}"),
        json: format!(
            r#"{{"nftables": [{{"delete": {{"table": {{"family": "inet", "name": "{TABLE}"}}}}}}]}}"#
        ),
    };
    let mut rounds = Rounds::new(peers);
    for round in 0..ROUNDS {
        let by_netlink = timed(|| nftables.load(&ruleset, None))?;
        rounds.add(by_netlink, peers, &load)?;
        if round + 1 < ROUNDS {
            nftables.apply(&[Operation::DeleteTable(TableFamily::Inet)], None)?;
            peers
                .iter_mut()
                .try_for_each(|peer| peer.run(&delete).map(drop))?;
        }
    }
    rounds.print(&format!(
        "a table of {ELEMENTS} elements and {CHAINS} chains"
    ));
    Ok(())
}

/// Adds elements to the set of the whole table, and deletes them again.
fn elements(
    nftables: &mut Nftables,
    peers: &mut [Box<dyn Peer>],
    count: u32,
    rounds_of: u32,
) -> Result<(), Box<dyn Error>> {
    /// One after the other: the first after a pause finds cold caches, which is nobody's merit.
    const AT_ONCE: u32 = 10;
    let keys: Vec<_> = (0..count)
        .map(|index| vec![address(ELEMENTS + index)])
        .collect();
    let all = || Elements {
        family: TableFamily::Inet,
        set: "peers",
        key: KEY,
        interval: false,
        keys: keys.iter().map(Vec::as_slice).collect(),
    };
    let addresses: Vec<_> = (0..count)
        .map(|index| IpAddr::from((0x0a00_0000 + ELEMENTS + index).to_be_bytes()).to_string())
        .collect();
    let change = |verb: &str| Change {
        text: format!(
            "{verb} element inet {TABLE} peers {{ {} }}",
            addresses.join(", ")
        ),
        json: format!(
            r#"{{"nftables": [{{"{verb}": {{"element": {{"family": "inet", "table": "{TABLE}", "name": "peers", "elem": {addresses:?}}}}}}}]}}"#
        ),
    };
    let (add, delete) = (change("add"), change("delete"));
    let mut rounds = Rounds::new(peers);
    for _ in 0..rounds_of {
        let mut by_netlink = Duration::ZERO;
        for _ in 0..AT_ONCE {
            by_netlink += timed(|| nftables.apply(&[Operation::AddElements(all())], None))?;
            nftables.apply(&[Operation::DeleteElements(all())], None)?;
        }
        let mut by_peers = vec![Duration::ZERO; peers.len()];
        for (peer, total) in peers.iter_mut().zip(&mut by_peers) {
            for _ in 0..AT_ONCE {
                *total += peer.run(&add)?;
                peer.run(&delete)?;
            }
        }
        let by_peers = by_peers.into_iter().map(|total| total / AT_ONCE);
        rounds.add_times(by_netlink / AT_ONCE, by_peers.collect());
    }
    rounds.print(&format!("{count} element(s) into a set of {ELEMENTS}"));
    Ok(())
}

/// Each in a process of its own, since a process can not forget the most that it had.
fn memory_of_all() -> Result<(), Box<dyn Error>> {
    for who in ["netlink", "nft -f", "nft -j -f", "libnftables"] {
        let output = Command::new(std::env::current_exe()?)
            .args(["memory", who])
            .output()?;
        let text = String::from_utf8_lossy(if output.status.success() {
            &output.stdout
        } else {
            &output.stderr
        })
        .into_owned();
        println!("{who}: {}", text.trim());
    }
    Ok(())
}

fn memory_of(who: &str) -> Result<(), Box<dyn Error>> {
    let ruleset = ruleset();
    let load = Change {
        text: render::text(&ruleset),
        json: render::json(&ruleset)?.to_string(),
    };
    let namespace = Namespace::new()?;
    let mut peer: Box<dyn Peer> = match who {
        "nft -f" => Box::new(Nft(namespace)),
        "nft -j -f" => Box::new(NftJson(namespace)),
        "libnftables" => Box::new(Library::start()?),
        _ => {
            let mut nftables = namespace.run(Nftables::open)??;
            // The ruleset is there before; what counts is what telling it takes.
            std::fs::write("/proc/self/clear_refs", "5")?;
            let before = status("VmRSS:")?;
            nftables.load(&ruleset, None)?;
            println!("{} KiB more than before", status("VmHWM:")? - before);
            return Ok(());
        }
    };
    peer.run(&load)?;
    drop(peer);
    println!(
        "{} KiB in all",
        getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss()
    );
    Ok(())
}

/// A number of `/proc/self/status`, in KiB.
fn status(name: &str) -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no such number")?.parse()?)
}

/// Times of rounds: netlink's, and each peer's.
struct Rounds {
    peers: Vec<&'static str>,
    times: Vec<(Duration, Vec<Duration>)>,
}

impl Rounds {
    fn new(peers: &[Box<dyn Peer>]) -> Self {
        Self {
            peers: peers.iter().map(|peer| peer.name()).collect(),
            times: Vec::new(),
        }
    }

    fn add(
        &mut self,
        by_netlink: Duration,
        peers: &mut [Box<dyn Peer>],
        change: &Change,
    ) -> Result<(), Box<dyn Error>> {
        let by_peers = peers.iter_mut().map(|peer| peer.run(change));
        self.times
            .push((by_netlink, by_peers.collect::<Result<_, _>>()?));
        Ok(())
    }

    fn add_times(&mut self, by_netlink: Duration, by_peers: Vec<Duration>) {
        self.times.push((by_netlink, by_peers));
    }

    fn print(mut self, what: &str) {
        self.times.sort();
        let (netlink, _) = self.times[self.times.len() / 2];
        println!("{what}: netlink {netlink:.1?}, faster than");
        for (index, peer) in self.peers.iter().enumerate() {
            let ratio = |(one, others): &(Duration, Vec<Duration>)| {
                others[index].as_secs_f64() / one.as_secs_f64()
            };
            let mut ratios: Vec<_> = self.times.iter().map(ratio).collect();
            ratios.sort_by(f64::total_cmp);
            let at = |part: f64| ratios[((ratios.len() - 1) as f64 * part).round() as usize];
            let (low, median, high) = (at(0.25), at(0.5), at(0.75));
            println!("  {peer}: {median:.1} times ({low:.1} to {high:.1})");
        }
    }
}

fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<Duration, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn address(index: u32) -> Value {
    Value::Address(IpAddr::from((0x0a00_0000 + index).to_be_bytes()))
}

fn ruleset() -> Ruleset {
    let class = |index: u32| format!("class_{index}");
    let set = Set {
        key: KEY.to_vec(),
        interval: false,
        comment: "peers".into(),
        elements: (0..ELEMENTS).map(|index| vec![address(index)]).collect(),
    };
    let elements = (0..CHAINS).map(|index| {
        let verdict = Verdict::Goto(class(index));
        let comment = format!("x/pod-{index}");
        (vec![address(index)], MapElement { verdict, comment })
    });
    let map = VerdictMap {
        key: KEY.to_vec(),
        comment: "classes".into(),
        elements: elements.collect(),
    };
    let mut chains = vec![Chain {
        name: "egress".into(),
        base: Some(Base {
            hook: Hook::Forward,
            device: None,
            priority: -6,
        }),
        rules: vec![Rule::lookup([Field::Ipv4Source], "classes")],
    }];
    chains.extend((0..CHAINS).map(|index| Chain {
        name: class(index),
        base: None,
        rules: vec![
            Rule::verdict(
                [Match::in_set([Field::Ipv4Destination], "peers")],
                Verdict::Accept,
            ),
            Rule::verdict([], Verdict::Drop).comment("closed"),
        ],
    }));
    Ruleset {
        tables: vec![Table {
            family: TableFamily::Inet,
            counters: Default::default(),
            sets: [("peers", set)].into_iter().collect(),
            maps: [("classes", map)].into_iter().collect(),
            chains: chains.into_iter().map(Arc::new).collect(),
        }],
    }
}
