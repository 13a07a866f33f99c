//! Changes are heard of, with who made them; lost ones are told to be lost.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kernel::{Event, Generation, Nftables, Object, Operation, Watch};
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::ruleset::TableFamily;
use support::{Attached, cases, namespace, nftables, ruleset};
use testbed::Namespace;

const SHORT: Duration = Duration::from_millis(200);

fn watch(namespace: &Namespace, buffer: usize) -> Watch {
    namespace.run(|| Watch::open(buffer)).unwrap().unwrap()
}

fn add_table(nftables: &mut Nftables) -> Generation {
    nftables
        .apply(&[Operation::AddTable(TableFamily::Inet)], None)
        .unwrap();
    nftables.generation().unwrap()
}

#[test]
fn an_own_change_is_known_by_its_port() {
    let namespace = namespace();
    let mut watch = watch(&namespace, 1 << 20);
    let mut nftables = nftables(&namespace);
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), []);
    let generation = add_table(&mut nftables);
    let port = nftables.port();
    let process = Some(std::process::id());
    let events = watch.wait(SHORT).unwrap();
    let [
        Event::Object {
            object,
            deleted: false,
            port: one,
        },
        Event::Generation {
            generation: new,
            port: two,
            process: by,
            name: Some(_),
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!(object, &Object::Table(TableFamily::Inet));
    assert_eq!((*one, *two, *new), (port, port, generation));
    // The kernel names the thread, in this case one of this process.
    assert!(by.is_some() && process.is_some());
}

#[test]
fn a_change_of_another_is_told_with_its_program() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    nftables
        .load(
            &ruleset(
                &cases()[0].1,
                "node-1",
                Attached::Unknown,
                NodeEgress::Allow,
            ),
            None,
        )
        .unwrap();
    let mut watch = watch(&namespace, 1 << 20);
    namespace
        .nft("add table ip other\nadd element inet picket local4 { 9.9.9.9 }\nflush chain inet picket guards")
        .unwrap();
    let events = watch.wait(SHORT).unwrap();
    let objects: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Object {
                object,
                deleted,
                port,
            } => {
                assert_ne!(*port, nftables.port());
                Some(format!("{} {object}", if *deleted { "-" } else { "+" }))
            }
            _ => None,
        })
        .collect();
    assert_eq!(objects[0], "+ elements of inet picket local4");
    assert!(
        objects[1].starts_with("- a rule of chain inet picket guards"),
        "{objects:?}"
    );
    let Some(Event::Generation {
        port,
        name,
        process,
        generation,
    }) = events.last()
    else {
        panic!("{events:?}");
    };
    assert_ne!(*port, nftables.port());
    assert_eq!(name.as_deref(), Some("nft"));
    assert!(process.is_some_and(|process| process != std::process::id()));
    assert_eq!(*generation, nftables.generation().unwrap());
    namespace.nft("flush ruleset").unwrap();
    let events = watch.wait(SHORT).unwrap();
    let gone = |event: &Event| {
        matches!(
            event,
            Event::Object {
                object: Object::Table(_),
                deleted: true,
                ..
            }
        )
    };
    assert!(events.iter().any(gone), "{events:?}");
}

#[test]
fn lost_events_are_an_event() {
    let namespace = namespace();
    let mut watch = watch(&namespace, 1);
    let mut nftables = nftables(&namespace);
    let ruleset = ruleset(
        &cases()[0].1,
        "node-1",
        Attached::Unknown,
        NodeEgress::Allow,
    );
    for _ in 0..4 {
        nftables.load(&ruleset, None).unwrap();
        let delete = [Operation::DeleteTable(TableFamily::Inet)];
        nftables.apply(&delete, None).unwrap();
    }
    let events = watch.wait(SHORT).unwrap();
    assert!(events.contains(&Event::Overrun), "{events:?}");
    // And it goes on.
    add_table(&mut nftables);
    let events = watch.wait(SHORT).unwrap();
    assert!(
        matches!(events.last(), Some(Event::Generation { .. })),
        "{events:?}"
    );
}
