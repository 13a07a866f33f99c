//! How much faster netlink is than `nft -f`, on this machine and now: `cargo run --release -p kernel --example compare`.
//!
//! Rounds of both alternate, each on tables of the same content in a namespace of its own, and what is printed is the
//! median of the rounds' ratios, with the middle half of them. Times are of this machine; ratios carry further.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use kernel::{Elements, Nftables, Operation};
use policy_compiler::render;
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, KeyType, MapElement, Match, Rule, Ruleset, Set, TABLE, Table,
    TableFamily, Value, Verdict, VerdictMap,
};
use testbed::Namespace;

const KEY: &[KeyType] = &[KeyType::Ipv4Address];
const ELEMENTS: u32 = 100_000;
const CHAINS: u32 = 1_000;
const AT_ONCE: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let ruleset = ruleset();
    let text = render::text(&ruleset);
    let (ours, theirs) = (Namespace::new()?, Namespace::new()?);
    let mut nftables = ours.run(Nftables::open)??;

    let (mut whole, mut read) = (Rounds::default(), Rounds::default());
    for _ in 0..7 {
        let by_netlink = timed(|| nftables.load(&ruleset, None))?;
        let by_nft = timed(|| theirs.nft(&text))?;
        whole.add(by_netlink, by_nft);
        let by_netlink = timed(|| nftables.read())?;
        let by_nft = timed(|| theirs.nft("list ruleset"))?;
        read.add(by_netlink, by_nft);
        nftables.apply(&[Operation::DeleteTable(TableFamily::Inet)], None)?;
        theirs.nft("flush ruleset")?;
    }
    whole.print(&format!("{ELEMENTS} elements, {CHAINS} chains: load"));
    read.print("the same: read (nft: list)");

    nftables.load(&ruleset, None)?;
    theirs.nft(&text)?;
    let keys = [vec![address(ELEMENTS)]];
    let one = || Elements {
        family: TableFamily::Inet,
        set: "peers",
        key: KEY,
        interval: false,
        keys: keys.iter().map(Vec::as_slice).collect(),
    };
    let element = format!("element inet {TABLE} peers {{ 10.1.134.160 }}");
    let mut single = Rounds::default();
    for _ in 0..31 {
        // Some one after the other: the first after a pause finds cold caches, which is nobody's merit.
        let mut by_netlink = Duration::ZERO;
        for _ in 0..AT_ONCE {
            by_netlink += timed(|| nftables.apply(&[Operation::AddElements(one())], None))?;
            nftables.apply(&[Operation::DeleteElements(one())], None)?;
        }
        let mut by_nft = Duration::ZERO;
        for _ in 0..AT_ONCE {
            by_nft += timed(|| theirs.nft(&format!("add {element}")))?;
            theirs.nft(&format!("delete {element}"))?;
        }
        single.add(by_netlink / AT_ONCE, by_nft / AT_ONCE);
    }
    single.print("one element into a table of that size");
    Ok(())
}

/// Times of rounds: netlink's, and nft's.
#[derive(Default)]
struct Rounds(Vec<(Duration, Duration)>);

impl Rounds {
    fn add(&mut self, by_netlink: Duration, by_nft: Duration) {
        self.0.push((by_netlink, by_nft));
    }

    fn print(mut self, what: &str) {
        let middle = |mut values: Vec<f64>, part: f64| {
            values.sort_by(f64::total_cmp);
            values[((values.len() - 1) as f64 * part).round() as usize]
        };
        let ratios: Vec<_> = self
            .0
            .iter()
            .map(|(one, other)| other.as_secs_f64() / one.as_secs_f64())
            .collect();
        let of = |part| middle(ratios.clone(), part);
        let (low, median, high) = (of(0.25), of(0.5), of(0.75));
        self.0.sort();
        let (netlink, _) = self.0[self.0.len() / 2];
        println!("{what}: {median:.1} times faster ({low:.1} to {high:.1}); netlink {netlink:.1?}");
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
            sets: BTreeMap::from([("peers".into(), set)]),
            maps: BTreeMap::from([("classes".into(), map)]),
            chains,
        }],
    }
}
