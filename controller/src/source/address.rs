//! Made-up addresses.
//!
//! Pods get theirs from their node's podCIDR, else from `10.244.BLOCK.10` to `.254` and `fd00:10:244:BLOCK::a` to
//! `::fe`, where BLOCK is the node's position in name order and, once that is full, the next that no node has.
//! Nodes get `172.18.0.10` and `fd00:172:18::a` and up. Addresses that the input holds are left out.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    fn address(self, number: u128) -> Option<IpAddr> {
        match self {
            Family::V4 => u32::try_from(number)
                .ok()
                .map(|number| Ipv4Addr::from(number).into()),
            Family::V6 => Some(Ipv6Addr::from(number).into()),
        }
    }
}

/// Parses an address as it may stand in a status; what is no address is nobody's here, others refuse it.
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The first made-up host in a range; what is below is left to gateways.
const FIRST_HOST: u128 = 10;

/// The last made-up host in a block.
const LAST_HOST: u128 = 254;

/// `10.244.0.0/24` to `10.255.255.0/24`, then `100.64.0.0/24` to `100.127.255.0/24`: block to network.
fn block_v4(block: usize) -> Option<u32> {
    const FIRST: u32 = 12 << 8;
    const SECOND: u32 = 64 << 8;
    let block = u32::try_from(block).ok()?;
    match block.checked_sub(FIRST) {
        None => Some(u32::from(Ipv4Addr::new(10, 244, 0, 0)) + (block << 8)),
        Some(rest) if rest < SECOND => Some(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + (rest << 8)),
        Some(_) => None,
    }
}

/// `fd00:10:244:BLOCK::`.
fn block_v6(block: usize) -> Option<u128> {
    let block = u16::try_from(block).ok()?;
    Some(Ipv6Addr::new(0xfd00, 0x10, 0x244, block, 0, 0, 0, 0).into())
}

/// How far a node's addresses of one family are used.
#[derive(Debug)]
struct Cursor {
    /// What is left of the podCIDR, from and to.
    cidr: Option<(u128, u128)>,
    block: usize,
    next_host: u128,
}

/// Hands out addresses that nobody has.
#[derive(Debug)]
pub(super) struct Addresses {
    taken: HashSet<IpAddr>,
    /// The podCIDRs of the input, merged and sorted: only their own node may use them.
    reserved: Vec<(Family, u128, u128)>,
    next_block: BTreeMap<Family, usize>,
    node_count: usize,
    cursors: BTreeMap<(Family, usize), Cursor>,
}

impl Addresses {
    /// Knows what the input holds.
    pub(super) fn new(taken: HashSet<IpAddr>, pod_cidrs: &[IpNet], node_count: usize) -> Self {
        let mut ranges: Vec<_> = pod_cidrs.iter().map(|cidr| range(*cidr)).collect();
        ranges.sort_unstable();
        let mut reserved: Vec<(Family, u128, u128)> = Vec::new();
        for (family, first, last) in ranges {
            match reserved.last_mut() {
                Some((known, _, end)) if *known == family && first <= *end => *end = last.max(*end),
                _ => reserved.push((family, first, last)),
            }
        }
        Self {
            taken,
            reserved,
            next_block: BTreeMap::new(),
            node_count,
            cursors: BTreeMap::new(),
        }
    }

    /// An address for a node, by its position in name order.
    pub(super) fn node(&mut self, index: usize, family: Family) -> Option<IpAddr> {
        let (network, last) = match family {
            // To 172.31.255.255, the end of this private range.
            Family::V4 => (
                u32::from(Ipv4Addr::new(172, 18, 0, 0)).into(),
                u32::from(Ipv4Addr::new(172, 31, 255, 255)).into(),
            ),
            Family::V6 => {
                let network = u128::from(Ipv6Addr::new(0xfd00, 0x172, 0x18, 0, 0, 0, 0, 0));
                (network, network + u128::from(u64::MAX))
            }
        };
        let first: u128 = network + FIRST_HOST + index as u128;
        let mut number = first;
        while number <= last {
            // A wide podCIDR is stepped over at once.
            if let Some(end) = self.reserved_until(family, number) {
                number = end.checked_add(1)?;
                continue;
            }
            if let Some(address) = self.take(family, number) {
                return Some(address);
            }
            number += 1;
        }
        None
    }

    /// An address for a pod on a node, with the node's podCIDRs.
    pub(super) fn pod(
        &mut self,
        index: usize,
        pod_cidrs: &[IpNet],
        family: Family,
    ) -> Option<IpAddr> {
        let mut cursor = self
            .cursors
            .remove(&(family, index))
            .unwrap_or_else(|| Cursor {
                cidr: pod_cidrs
                    .iter()
                    .map(|cidr| range(*cidr))
                    .find(|range| range.0 == family)
                    .and_then(hosts),
                block: index,
                next_host: FIRST_HOST,
            });
        let address = self.next(&mut cursor, family);
        self.cursors.insert((family, index), cursor);
        address
    }

    fn next(&mut self, cursor: &mut Cursor, family: Family) -> Option<IpAddr> {
        while let Some((first, last)) = cursor.cidr {
            cursor.cidr = (first < last).then(|| (first + 1, last));
            if let Some(address) = self.take(family, first) {
                return Some(address);
            }
        }
        loop {
            if cursor.next_host > LAST_HOST {
                let next = self.next_block.entry(family).or_insert(self.node_count);
                cursor.block = *next;
                *next += 1;
                cursor.next_host = FIRST_HOST;
            }
            let network = match family {
                Family::V4 => block_v4(cursor.block)?.into(),
                Family::V6 => block_v6(cursor.block)?,
            };
            let number = network + cursor.next_host;
            cursor.next_host += 1;
            if self.reserved_until(family, number).is_none()
                && let Some(address) = self.take(family, number)
            {
                return Some(address);
            }
        }
    }

    fn take(&mut self, family: Family, number: u128) -> Option<IpAddr> {
        let address = family.address(number)?;
        self.taken.insert(address).then_some(address)
    }

    /// The end of the podCIDR that a number is in.
    fn reserved_until(&self, family: Family, number: u128) -> Option<u128> {
        let after = self
            .reserved
            .partition_point(|(known, first, _)| (*known, *first) <= (family, number));
        let (known, _, last) = self.reserved.get(after.checked_sub(1)?)?;
        (*known == family && number <= *last).then_some(*last)
    }
}

fn range(cidr: IpNet) -> (Family, u128, u128) {
    (
        Family::of(cidr.network()),
        number(cidr.network()),
        number(cidr.broadcast()),
    )
}

/// The part of a range that is handed out: not the network, gateway and broadcast addresses if there is room.
fn hosts((_, first, last): (Family, u128, u128)) -> Option<(u128, u128)> {
    match last - first {
        0..=1 => Some((first, last)),
        size if size < 2 * FIRST_HOST => Some((first + 2, last - 1)),
        _ => Some((first + FIRST_HOST, last - 1)),
    }
}

/// The addresses of a text that is an address or a prefix as long as one.
pub(super) fn single(text: &str) -> Option<IpAddr> {
    match text.parse::<IpNet>() {
        Ok(net) => (net.prefix_len() == net.max_prefix_len()).then(|| net.addr().to_canonical()),
        Err(_) => parse(text),
    }
}
