//! Short exact names for sets of addresses.

use policy_compiler::model::{AddressRange, AddressRanges, Cidr, Family, IpBlock};

/// More pieces than this are only counted.
const SHOWN: usize = 4;

/// Addresses in the words of the ipBlocks that divide them: networks (`10.0.0.0/8, 192.0.2.7`), or one network without
/// others (`10.0.0.0/8 except 10.1.0.0/16`), or ranges.
pub(crate) fn name(addresses: &AddressRanges, blocks: &[IpBlock]) -> String {
    let parts: Vec<String> = Family::ALL
        .into_iter()
        .map(|family| {
            let ranges = addresses.iter().copied();
            ranges
                .filter(|range| Family::of(range.first()) == family)
                .collect()
        })
        .filter(|ranges: &AddressRanges| !ranges.is_empty())
        .map(|ranges| name_of_family(&ranges, blocks))
        .collect();
    parts.join(", ")
}

fn name_of_family(ranges: &AddressRanges, blocks: &[IpBlock]) -> String {
    if ranges.iter().all(|range| range.as_cidr().is_some()) {
        return list(ranges);
    }
    let networks = blocks
        .iter()
        .flat_map(|block| block.except().iter().copied().chain([block.cidr()]));
    let holding = networks.filter(|network| {
        ranges
            .iter()
            .all(|range| network.contains(range.first()) && network.contains(range.last()))
    });
    let narrowest = holding.max_by_key(|network| network.net().prefix_len());
    let within = narrowest.map(|network| (network, without(&network, ranges)));
    match within {
        Some((network, rest)) if rest.iter().count() <= ranges.iter().count() => {
            format!("{network} except {}", list(&rest))
        }
        _ => list(ranges),
    }
}

fn without(network: &Cidr, ranges: &AddressRanges) -> AddressRanges {
    AddressRanges::union([network]).minus(ranges)
}

fn list(ranges: &AddressRanges) -> String {
    let names: Vec<String> = ranges.iter().map(AddressRange::to_string).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> IpBlock {
        let network = |text: &str| Cidr::parse_strict(text).expect("a CIDR");
        let except = except.iter().map(|text| network(text)).collect();
        IpBlock::new(network(cidr), except).expect("excepts inside")
    }

    /// The addresses that are in all of these blocks and in none of the others.
    fn exactly_in(held: &[IpBlock], all: &[IpBlock]) -> AddressRanges {
        let Some((first, rest)) = held.split_first() else {
            return AddressRanges::default();
        };
        let within = rest.iter().fold(first.ranges(), |within, block| {
            within.minus(&within.minus(&block.ranges()))
        });
        let others = all.iter().filter(|block| !held.contains(block));
        others.fold(within, |within, block| within.minus(&block.ranges()))
    }

    #[track_caller]
    fn named(held: &[IpBlock], others: &[IpBlock], expected: &str) {
        let all = [held, others].concat();
        assert_eq!(name(&exactly_in(held, &all), &all), expected);
    }

    #[test]
    fn addresses_are_named_by_the_blocks_that_divide_them() {
        let ten = block("10.0.0.0/8", &[]);
        let one = block("10.1.0.0/16", &[]);
        let world = block("0.0.0.0/0", &["10.1.0.0/16", "192.0.2.7/32"]);
        named(std::slice::from_ref(&ten), &[], "10.0.0.0/8");
        named(
            std::slice::from_ref(&ten),
            std::slice::from_ref(&one),
            "10.0.0.0/8 except 10.1.0.0/16",
        );
        named(
            &[ten.clone(), one.clone()],
            std::slice::from_ref(&world),
            "10.1.0.0/16",
        );
        named(
            std::slice::from_ref(&world),
            std::slice::from_ref(&ten),
            "0.0.0.0/0 except 10.0.0.0/8, 192.0.2.7",
        );
        named(
            &[block("0.0.0.0/0", &[])],
            &[world],
            "10.1.0.0/16, 192.0.2.7",
        );
        named(
            &[block("2001:db8::/32", &["2001:db8:1::/48"])],
            &[],
            "2001:db8::/32 except 2001:db8:1::/48",
        );
    }
}
