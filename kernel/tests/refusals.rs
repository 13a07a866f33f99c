//! What the kernel refuses: each refusal names the object, and nothing is half-applied.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;
use std::process::Command;

use kernel::{Elements, Error, Generation, Nftables, Object, Operation, Refusal, Unfit};
use nix::errno::Errno;
use policy_compiler::model::InterfaceName;
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, KeyType, Log, MapElement, Match, Rule, Set, TableFamily, Value,
    Verdict, VerdictMap,
};
use support::{listed, namespace, nftables};
use testbed::Namespace;

const INET: TableFamily = TableFamily::Inet;

fn chain(name: &str) -> Chain {
    Chain {
        name: name.into(),
        base: None,
        rules: vec![],
    }
}

fn set(interval: bool) -> Set {
    Set {
        key: vec![KeyType::Ipv4Address],
        interval,
        comment: "a set".into(),
        elements: Default::default(),
    }
}

fn addresses(hosts: impl IntoIterator<Item = u32>) -> Vec<Vec<Value>> {
    let address = |host: u32| IpAddr::from((0x0a00_0000u32 + host).to_be_bytes());
    hosts
        .into_iter()
        .map(|host| vec![Value::Address(address(host))])
        .collect()
}

fn elements<'a>(set: &'a str, interval: bool, keys: &'a [Vec<Value>]) -> Elements<'a> {
    let key = &[KeyType::Ipv4Address];
    Elements {
        family: INET,
        set,
        key,
        interval,
        keys: keys.iter().map(Vec::as_slice).collect(),
    }
}

fn add_chain(chain: &Chain) -> Operation<'_> {
    Operation::AddChain {
        family: INET,
        name: &chain.name,
        base: chain.base.as_ref(),
    }
}

fn add_set<'a>(name: &'a str, set: &'a Set) -> Operation<'a> {
    Operation::AddSet {
        family: INET,
        name,
        key: &set.key,
        interval: set.interval,
        comment: &set.comment,
    }
}

/// A namespace with the table, a chain `c` and a set `s` with one element, 10.0.0.7.
fn prepared() -> (Namespace, Nftables) {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let (c, s, keys) = (chain("c"), set(false), addresses([7]));
    nftables
        .apply(
            &[
                Operation::AddTable(INET),
                add_chain(&c),
                add_set("s", &s),
                Operation::AddElements(elements("s", false, &keys)),
            ],
            None,
        )
        .unwrap();
    (namespace, nftables)
}

/// What was refused; the list is as before.
fn refused(operations: &[Operation<'_>]) -> Vec<Refusal> {
    let (namespace, mut nftables) = prepared();
    let before = listed(&namespace);
    let generation = nftables.generation().unwrap();
    let error = nftables.apply(operations, Some(generation)).unwrap_err();
    assert_eq!(listed(&namespace), before);
    assert_eq!(nftables.generation().unwrap(), generation);
    match error {
        Error::Refused(refusals) => refusals,
        other => panic!("{other}"),
    }
}

/// The only refusal, as text.
fn only(operations: &[Operation<'_>], errno: Errno) -> String {
    let refusals = refused(operations);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(refusals[0].errno, errno as i32);
    Error::Refused(refusals).to_string()
}

#[test]
fn what_is_there_already_is_named() {
    let (c, s) = (chain("c"), set(false));
    let text = only(&[Operation::AddTable(INET)], Errno::EEXIST);
    assert_eq!(
        text,
        "the kernel refused table inet picket: EEXIST: File exists"
    );
    let other = chain("other");
    let both = [add_chain(&other), add_chain(&c)];
    assert_eq!(
        only(&both, Errno::EEXIST),
        "the kernel refused chain inet picket c: EEXIST: File exists"
    );
    let text = only(&[add_set("s", &s)], Errno::EEXIST);
    assert_eq!(
        text,
        "the kernel refused set inet picket s: EEXIST: File exists"
    );
    let keys = addresses([5, 6, 7, 8]);
    let text = only(
        &[Operation::AddElements(elements("s", false, &keys))],
        Errno::EEXIST,
    );
    assert_eq!(
        text,
        "the kernel refused element 10.0.0.7 of inet picket s: EEXIST: File exists"
    );
}

#[test]
fn what_is_not_there_is_named() {
    for (operation, object) in [
        (
            Operation::DeleteTable(TableFamily::Bridge),
            "table bridge picket",
        ),
        (
            Operation::DeleteChain {
                family: INET,
                name: "none",
            },
            "chain inet picket none",
        ),
        (
            Operation::FlushChain {
                family: INET,
                name: "none",
            },
            "chain inet picket none",
        ),
        (
            Operation::DeleteSet {
                family: INET,
                name: "none",
            },
            "set inet picket none",
        ),
        (
            Operation::FlushSet {
                family: INET,
                name: "none",
            },
            "set inet picket none",
        ),
    ] {
        let text = only(&[operation], Errno::ENOENT);
        let expected = format!("the kernel refused {object}: ENOENT: No such file or directory");
        assert_eq!(text, expected);
    }
    let keys = addresses([7, 9]);
    let text = only(
        &[Operation::DeleteElements(elements("s", false, &keys))],
        Errno::ENOENT,
    );
    assert!(text.contains("element 10.0.0.9 of inet picket s"), "{text}");
    let good = Rule::verdict([], Verdict::Return);
    let bad = Rule::verdict([], Verdict::Jump("none".into())).comment("to nowhere");
    let append = |rule| Operation::AppendRule {
        family: INET,
        chain: "c",
        rule,
    };
    let text = only(&[append(&good), append(&bad)], Errno::ENOENT);
    assert!(
        text.contains("rule 2 of chain inet picket c (\"to nowhere\")"),
        "{text}"
    );
    let bad = Rule::verdict([Match::in_set([Field::Ipv4Source], "none")], Verdict::Drop);
    let text = only(&[append(&bad)], Errno::ENOENT);
    assert!(text.contains("rule 1 of chain inet picket c"), "{text}");
    let map = VerdictMap {
        key: vec![KeyType::Ipv4Address],
        comment: "a map".into(),
        elements: Default::default(),
    };
    let (keys, good) = (
        addresses([1, 2]),
        MapElement {
            verdict: Verdict::Goto("c".into()),
            comment: "x".into(),
        },
    );
    let bad = MapElement {
        verdict: Verdict::Goto("none".into()),
        comment: "x".into(),
    };
    let new = [
        Operation::AddMap {
            family: INET,
            name: "m",
            key: &map.key,
            comment: &map.comment,
        },
        Operation::AddMapElements {
            family: INET,
            map: "m",
            key: &map.key,
            elements: vec![(&keys[0], &good), (&keys[1], &bad)],
        },
    ];
    let text = only(&new, Errno::ENOENT);
    assert!(text.contains("element 10.0.0.2 of inet picket m"), "{text}");
}

#[test]
fn what_is_in_use_is_named() {
    let used = Rule::verdict([Match::in_set([Field::Ipv4Source], "s")], Verdict::Drop);
    let other = chain("other");
    let start = [
        add_chain(&other),
        Operation::AppendRule {
            family: INET,
            chain: "other",
            rule: &used,
        },
        Operation::DeleteSet {
            family: INET,
            name: "s",
        },
    ];
    let text = only(&start, Errno::EBUSY);
    assert!(text.contains("set inet picket s: EBUSY"), "{text}");
    let jump = Rule::verdict([], Verdict::Jump("c".into()));
    let start = [
        add_chain(&other),
        Operation::AppendRule {
            family: INET,
            chain: "other",
            rule: &jump,
        },
        Operation::DeleteChain {
            family: INET,
            name: "c",
        },
    ];
    let text = only(&start, Errno::EBUSY);
    assert!(text.contains("chain inet picket c: EBUSY"), "{text}");
}

#[test]
fn what_makes_no_sense_is_named() {
    // A set has no verdicts.
    let rule = Rule::lookup([Field::Ipv4Source], "s").comment("no map");
    let text = only(
        &[Operation::AppendRule {
            family: INET,
            chain: "c",
            rule: &rule,
        }],
        Errno::EINVAL,
    );
    assert!(
        text.contains("rule 1 of chain inet picket c (\"no map\"): EINVAL"),
        "{text}"
    );
}

#[test]
fn a_rule_that_closes_a_loop_is_named() {
    let base = Base {
        hook: Hook::Forward,
        device: None,
        priority: 0,
    };
    let (first, other) = (
        Chain {
            base: Some(base),
            ..chain("first")
        },
        chain("other"),
    );
    let jump = |to: &str| Rule::verdict([], Verdict::Jump(to.into()));
    let (to_c, to_other) = (jump("c"), jump("other"));
    let append = |chain, rule| Operation::AppendRule {
        family: INET,
        chain,
        rule,
    };
    let refusals = refused(&[
        add_chain(&first),
        add_chain(&other),
        append("first", &to_c),
        append("c", &to_other),
        append("other", &to_c),
    ]);
    // The loop is found where it closes; kernels before 6.10 say ELOOP.
    let errnos = [Errno::ELOOP as i32, Errno::EMLINK as i32];
    assert!(errnos.contains(&refusals[0].errno), "{refusals:?}");
    assert_eq!(
        refusals[0].object.to_string(),
        "rule 1 of chain inet picket other"
    );
}

#[test]
fn intervals_are_named_by_their_range() {
    let keys = |text: &str| {
        let cidr = policy_compiler::model::Cidr::parse_strict(text).unwrap();
        vec![Value::Addresses(cidr.range())]
    };
    let new = set(true);
    let first = [keys("10.1.0.0/16"), keys("10.3.0.0/16")];
    let second = [
        keys("10.0.0.0/24"),
        keys("10.2.0.0/24"),
        keys("10.3.0.0/24"),
        keys("10.9.0.0/24"),
    ];
    let text = only(
        &[
            add_set("i", &new),
            Operation::AddElements(elements("i", true, &first)),
            Operation::AddElements(elements("i", true, &second)),
        ],
        Errno::EEXIST,
    );
    assert!(
        text.contains("element 10.3.0.0/24 of inet picket i"),
        "{text}"
    );
}

#[test]
fn every_refusal_of_a_batch_is_told() {
    let refusals = refused(&[
        Operation::DeleteChain {
            family: INET,
            name: "none",
        },
        Operation::DeleteChain {
            family: INET,
            name: "c",
        },
        Operation::DeleteSet {
            family: INET,
            name: "none",
        },
    ]);
    let objects: Vec<_> = refusals
        .iter()
        .map(|refusal| refusal.object.to_string())
        .collect();
    assert_eq!(objects, ["chain inet picket none", "set inet picket none"]);
    let text = Error::Refused(refusals).to_string();
    assert!(text.ends_with(", and 1 more"), "{text}");
}

#[test]
fn a_stale_generation_is_refused() {
    let (namespace, mut nftables) = prepared();
    let before = nftables.generation().unwrap();
    namespace.nft("add table ip other").unwrap();
    let after = nftables.generation().unwrap();
    assert_eq!(after, Generation(before.0 + 1));
    let flush = [Operation::FlushSet {
        family: INET,
        name: "s",
    }];
    let error = nftables.apply(&flush, Some(before)).unwrap_err();
    assert!(
        matches!(error, Error::Stale { expected } if expected == before),
        "{error}"
    );
    assert!(listed(&namespace).contains("10.0.0.7"));
    nftables.apply(&flush, Some(after)).unwrap();
    assert!(!listed(&namespace).contains("10.0.0.7"));
}

#[test]
fn what_can_not_be_told_is_named_before_the_kernel_is_asked() {
    let (_namespace, mut nftables) = prepared();
    let mut unfit = |operation: Operation<'_>| match nftables.apply(&[operation], None) {
        Err(Error::Unfit { object, reason }) => (object, reason),
        other => panic!("{other:?}"),
    };
    let key = vec![vec![Value::Number(1)]];
    let (object, reason) = unfit(Operation::AddElements(elements("s", false, &key)));
    assert_eq!(reason, Unfit::Key(key[0].clone()));
    assert!(matches!(object, Object::Element { set, .. } if set == "s"));
    let long = Rule::verdict([], Verdict::Drop).comment("x".repeat(128));
    let (_, reason) = unfit(Operation::AppendRule {
        family: INET,
        chain: "c",
        rule: &long,
    });
    assert_eq!(reason, Unfit::TooLong);
    let mixed = [
        Match::is(Field::Ipv4Source, [addresses([1])[0][0].clone()]),
        Match::is(Field::Icmpv6Type, [Value::Number(135)]),
    ];
    let mixed = Rule::verdict(mixed, Verdict::Drop);
    let (_, reason) = unfit(Operation::AppendRule {
        family: INET,
        chain: "c",
        rule: &mixed,
    });
    assert_eq!(
        reason.to_string(),
        "a field is of another protocol than the packet"
    );
    let prefix = Log {
        group: 1,
        prefix: "x".repeat(128),
        snaplen: 0,
    };
    let reported = Rule::verdict([], Verdict::Drop).logged(prefix);
    let (_, reason) = unfit(Operation::AppendRule {
        family: INET,
        chain: "c",
        rule: &reported,
    });
    assert_eq!(reason, Unfit::TooLong);
    let device = || Some(InterfaceName::new("lo").unwrap());
    for (family, hook, device) in [
        (TableFamily::Netdev, Hook::Ingress, None),
        (TableFamily::Netdev, Hook::Forward, device()),
        (INET, Hook::Ingress, device()),
        (INET, Hook::Forward, device()),
    ] {
        let base = Base {
            hook,
            device,
            priority: 0,
        };
        let (object, reason) = unfit(Operation::AddChain {
            family,
            name: "hooked",
            base: Some(&base),
        });
        assert_eq!(reason, Unfit::Hook);
        assert!(matches!(object, Object::Chain { name, .. } if name == "hooked"));
    }
}

#[test]
fn a_process_that_may_not_open_more_files_is_told_so() {
    const NAME: &str = "a_process_that_may_not_open_more_files_is_told_so";
    if std::env::var_os(NAME).is_some() {
        let mut open = Vec::new();
        let error = loop {
            match Nftables::open() {
                Ok(nftables) => open.push(nftables),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(&error, Error::Open(source) if source.raw_os_error() == Some(Errno::EMFILE as i32)),
            "{error:?}"
        );
        // Those that are there go on.
        open[0].generation().unwrap();
        return;
    }
    let child = || {
        Command::new("prlimit")
            .args(["--nofile=64", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(NAME, "")
            .output()
    };
    let output = namespace().run(child).unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn operations_do_what_they_say() {
    let (namespace, mut nftables) = prepared();
    let (keys, one) = (addresses(1..=6), addresses([7]));
    let interval = set(true);
    let ranges = |texts: &[&str]| -> Vec<Vec<Value>> {
        let range = |text: &&str| {
            policy_compiler::model::Cidr::parse_strict(text)
                .unwrap()
                .range()
        };
        texts
            .iter()
            .map(|text| vec![Value::Addresses(range(text))])
            .collect()
    };
    let (all, gone) = (
        ranges(&["10.0.0.0/24", "10.0.2.0/24", "224.0.0.0/3"]),
        ranges(&["10.0.2.0/24", "224.0.0.0/3"]),
    );
    let between = ranges(&["10.0.1.0/24"]);
    let rule = Rule::verdict([], Verdict::Drop).comment("new");
    nftables
        .apply(
            &[
                Operation::DeleteElements(elements("s", false, &one)),
                Operation::AddElements(elements("s", false, &keys)),
                add_set("i", &interval),
                Operation::AddElements(elements("i", true, &all)),
                Operation::DeleteElements(elements("i", true, &gone)),
                Operation::AddElements(elements("i", true, &between)),
                Operation::AppendRule {
                    family: INET,
                    chain: "c",
                    rule: &rule,
                },
                Operation::FlushChain {
                    family: INET,
                    name: "c",
                },
                Operation::AppendRule {
                    family: INET,
                    chain: "c",
                    rule: &rule,
                },
            ],
            None,
        )
        .unwrap();
    let found = nftables.read().unwrap();
    assert_eq!(found.unknown, []);
    let table = &found.ruleset.tables[0];
    assert_eq!(
        table.sets["s"].elements.iter().cloned().collect::<Vec<_>>(),
        keys
    );
    let expected = ranges(&["10.0.0.0/24", "10.0.1.0/24"]);
    assert_eq!(
        table.sets["i"].elements.iter().cloned().collect::<Vec<_>>(),
        expected
    );
    assert_eq!(table.chains[0].rules, [rule]);
    nftables
        .apply(
            &[
                Operation::EnsureTable(INET),
                Operation::DeleteTable(INET),
                Operation::AddTable(INET),
            ],
            Some(found.generation),
        )
        .unwrap();
    assert_eq!(listed(&namespace), "table inet picket {\n}\n");
}

#[test]
fn nothing_of_others_is_read_or_changed_and_what_is_not_ours_is_told() {
    let (namespace, mut nftables) = prepared();
    namespace
        .nft(
            "add table ip picket
             add table inet other
             table inet picket {
                 set t { type ipv4_addr; flags timeout; elements = { 1.1.1.1 timeout 1h }; }
                 chain nat { type nat hook prerouting priority 0; policy accept; }
                 chain closed { type filter hook input priority 0; policy drop; }
             }
             add rule inet picket c limit rate 1/second accept comment \"slow\"
             add rule inet picket c tcp sport 1 drop
             add rule inet picket c meta nfproto ipv4 drop
             add rule inet picket c ip saddr . ip daddr { 1.1.1.1 . 1.1.1.1 } drop",
        )
        .unwrap();
    let found = nftables.read().unwrap();
    let unknown: Vec<_> = found
        .unknown
        .iter()
        .map(|it| it.object.to_string())
        .collect();
    assert_eq!(
        unknown,
        [
            "table picket of family 2",
            "chain inet picket nat",
            "chain inet picket closed",
            "set inet picket t",
            "rule 1 of chain inet picket c (\"slow\")",
            "rule 2 of chain inet picket c",
            "rule 3 of chain inet picket c",
            "rule 4 of chain inet picket c",
        ]
    );
    assert_eq!(found.ruleset.tables.len(), 1);
}
