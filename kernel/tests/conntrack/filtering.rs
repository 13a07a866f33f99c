//! What a filter lets through.

use std::net::IpAddr;

use kernel::conntrack::{Conntrack, Ends, Entry, Filter, Masked, Status};
use policy_compiler::model::Family;
use testbed::Namespace;

use super::create::{Wanted, create};
use super::world::dump;
use crate::support;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Connections that differ in everything.
fn wanted() -> Vec<Wanted> {
    let mut all = Vec::new();
    for net in ["10.0.0.", "fd00::"] {
        for (source, destination) in [("1", "2"), ("1", "3"), ("2", "3")] {
            for protocol in [6, 17, 132] {
                for (zone, mark, port) in [(0, 0, 80), (0, 1, 81), (5, 3, 80)] {
                    all.push(Wanted {
                        source: (ip(&format!("{net}{source}")), 4000),
                        destination: (ip(&format!("{net}{destination}")), port),
                        protocol,
                        zone,
                        mark,
                    });
                }
            }
        }
    }
    all
}

/// Every filter that asks for one thing, and some that ask for several.
fn filters() -> Vec<Filter> {
    let mut ends = vec![
        Ends {
            protocol: Some(6),
            ..Ends::default()
        },
        Ends {
            protocol: Some(1),
            ..Ends::default()
        },
        Ends {
            source_port: Some(80),
            ..Ends::default()
        },
    ];
    for net in ["10.0.0.", "fd00::"] {
        for host in ["1", "2", "3", "9"] {
            let address = Some(ip(&format!("{net}{host}")));
            ends.push(Ends {
                source: address,
                ..Ends::default()
            });
            ends.push(Ends {
                destination: address,
                ..Ends::default()
            });
        }
        for protocol in [None, Some(6), Some(17), Some(132), Some(58)] {
            ends.push(Ends {
                destination: Some(ip(&format!("{net}3"))),
                protocol,
                destination_port: Some(81),
                ..Ends::default()
            });
            ends.push(Ends {
                source: Some(ip(&format!("{net}3"))),
                destination: Some(ip(&format!("{net}1"))),
                protocol,
                source_port: Some(80),
                destination_port: Some(4000),
            });
        }
    }
    let all = Filter::default();
    let mut filters = vec![all];
    for family in [None, Some(Family::Ipv4), Some(Family::Ipv6)] {
        filters.push(Filter { family, ..all });
        for &ends in &ends {
            filters.push(Filter {
                family,
                original: ends,
                ..all
            });
            filters.push(Filter {
                family,
                reply: ends,
                ..all
            });
        }
        let masks = [
            Masked::set(1),
            Masked::clear(1),
            Masked::set(2),
            Masked::new(1, 3),
            Masked::new(0xff, 0),
        ];
        for mark in masks.map(Some) {
            filters.push(Filter {
                family,
                mark,
                ..all
            });
        }
        for zone in [0, 5, 6].map(Some) {
            filters.push(Filter {
                family,
                zone,
                ..all
            });
        }
        let both = [Status::ASSURED.into(), Masked::clear(Status::ASSURED.0)];
        for status in both.into_iter().chain([Masked::set(0)]) {
            filters.push(Filter {
                family,
                status: Some(status),
                ..all
            });
        }
    }
    // The two directions of one connection, and everything at once.
    filters.push(Filter {
        family: Some(Family::Ipv4),
        original: Ends {
            source: Some(ip("10.0.0.1")),
            protocol: Some(17),
            ..Ends::default()
        },
        reply: Ends {
            source: Some(ip("10.0.0.3")),
            source_port: Some(80),
            ..Ends::default()
        },
        zone: Some(5),
        mark: Some(Masked::set(2)),
        status: Some(Status::SEEN_REPLY.into()),
    });
    // What can not be.
    filters.push(Filter {
        original: Ends {
            source: Some(ip("10.0.0.1")),
            destination: Some(ip("fd00::2")),
            ..Ends::default()
        },
        ..all
    });
    filters
}

/// A filter in words of its own.
fn asked(filter: &Filter, wanted: &Wanted) -> bool {
    let ends = |ends: &Ends, from: (IpAddr, u16), to: (IpAddr, u16)| {
        let all = [
            ends.source.is_none() || ends.source == Some(from.0),
            ends.destination.is_none() || ends.destination == Some(to.0),
            ends.protocol.is_none() || ends.protocol == Some(wanted.protocol),
            ends.source_port.is_none() || ends.source_port == Some(from.1),
            ends.destination_port.is_none() || ends.destination_port == Some(to.1),
        ];
        all == [true; 5]
    };
    let family = if wanted.source.0.is_ipv4() {
        Family::Ipv4
    } else {
        Family::Ipv6
    };
    ends(&filter.original, wanted.source, wanted.destination)
        && ends(&filter.reply, wanted.destination, wanted.source)
        && (filter.family.is_none() || filter.family == Some(family))
        && (filter.zone.is_none() || filter.zone == Some(wanted.zone))
        && filter.mark.is_none_or(|mark| mark.matches(wanted.mark))
        && filter.status.is_none_or(|status| status.matches(0xe))
}

fn world() -> (Namespace, Conntrack) {
    let namespace = support::namespace();
    create(&namespace, &wanted());
    let conntrack = namespace.run(Conntrack::open).unwrap().unwrap();
    (namespace, conntrack)
}

#[test]
fn a_filter_lets_through_what_it_asks_for_and_nothing_else() {
    let (_namespace, mut conntrack) = world();
    let wanted = wanted();
    let mut counts = std::collections::BTreeSet::new();
    for filter in filters() {
        let entries = dump(&mut conntrack, &filter);
        let expected: Vec<_> = wanted.iter().filter(|one| asked(&filter, one)).collect();
        let found = |one: &&&Wanted| entries.iter().any(|entry: &Entry| one.is(entry));
        let missing: Vec<_> = expected.iter().filter(|one| !found(one)).collect();
        assert!(missing.is_empty(), "{filter:?}\n{missing:?}");
        assert_eq!(entries.len(), expected.len(), "{filter:?}\n{entries:?}");
        counts.insert(entries.len());
    }
    // From nothing to all, by many steps: few of the filters ask for the same.
    assert!(counts.contains(&0) && counts.contains(&wanted.len()) && counts.len() > 8);
}

#[test]
fn a_mask_counts_only_its_own_bits() {
    assert!(Masked::new(0b1111, 0b0011).matches(0b1011));
    assert!(!Masked::new(0b1111, 0b0011).matches(0b1001));
    assert!(Masked::set(0b10).matches(0b11) && !Masked::set(0b10).matches(0b01));
    assert!(Masked::clear(0b10).matches(0b01) && !Masked::clear(0b10).matches(0b10));
    assert_eq!(Masked::new(0b1111, 0b0011), Masked::new(0b0111, 0b0011));
}
