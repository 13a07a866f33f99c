//! What our tables dropped, asked of the kernel at each scrape. It counts itself, also while no agent runs.

use std::collections::BTreeMap;
use std::fmt;

use kernel::{Counted, Nftables};
use policy_compiler::lower::Dropped;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{DropLabels, DropReason, PolicyDirection};

/// The tables of the network namespace of this process.
#[derive(Debug)]
struct Tables;

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Tables));
}

impl Collector for Tables {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counted = match Nftables::open().and_then(|mut nftables| nftables.counters()) {
            Ok(counted) => counted,
            // Everything else is told.
            Err(error) => {
                tracing::debug!("what was dropped is not known: {error}");
                return Ok(());
            }
        };
        let sums = sums(&counted);
        for (name, help, unit, of) in [
            (
                "picket_dropped_packets",
                "Packets that our tables dropped, by why",
                None,
                (|(packets, _)| packets) as fn((u64, u64)) -> u64,
            ),
            (
                "picket_dropped",
                "Bytes of the packets that our tables dropped, by why",
                Some(&Unit::Bytes),
                |(_, bytes)| bytes,
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
            for (why, sum) in &sums {
                let labels = labels(*why);
                let metric = family.encode_family(&labels)?;
                ConstCounter::new(of(*sum)).encode(metric)?;
            }
        }
        Ok(())
    }
}

/// Packets and bytes by reason, of all tables; 0 where none counts, so that the first is an increase.
fn sums(counted: &[Counted]) -> BTreeMap<Dropped, (u64, u64)> {
    let mut sums: BTreeMap<_, _> = Dropped::ALL.into_iter().map(|one| (one, (0, 0))).collect();
    for one in counted {
        let sum = Dropped::of_counter(&one.name).and_then(|why| sums.get_mut(&why));
        if let Some((packets, bytes)) = sum {
            *packets += one.packets;
            *bytes += one.bytes;
        }
    }
    sums
}

fn labels(why: Dropped) -> DropLabels {
    let (direction, reason) = match why {
        Dropped::Policy(direction) => (PolicyDirection::Of(direction), DropReason::Policy),
        Dropped::Closed(direction) => (PolicyDirection::Of(direction), DropReason::Closed),
        Dropped::Revoked => (PolicyDirection::Any, DropReason::Revoked),
        Dropped::Guard => (PolicyDirection::Any, DropReason::Guard),
    };
    DropLabels { direction, reason }
}
