//! What Prometheus' client libraries tell of every process:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.
//!
//! `kubert-prometheus-process` tells the same, for an older `prometheus-client` than ours.

use std::fmt;

use procfs::process::{LimitValue, Process};
use procfs::{CurrentSI, KernelStats, ProcResult};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// What is asked of `/proc` at each scrape.
#[derive(Debug)]
struct Proc;

/// What `/proc` says of this process.
struct Numbers {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: i64,
    open_fds: u64,
    /// `u64::MAX` without a limit.
    max_fds: u64,
}

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Proc));
}

impl Collector for Proc {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Without /proc there is nothing to tell, and everything else is told.
        let Ok(numbers) = read() else {
            return Ok(());
        };
        let mut put = |name, help, unit: Option<&Unit>, metric: &dyn Encode| {
            metric.put(&mut encoder, name, help, unit)
        };
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let cpu = ConstCounter::new(numbers.cpu_seconds);
        put("process_cpu", "User and system CPU time", seconds, &cpu)?;
        let start = ConstGauge::new(numbers.start_seconds);
        let help = "When the process started, since 1970";
        put("process_start_time", help, seconds, &start)?;
        let resident = ConstGauge::new(numbers.resident_bytes);
        put(
            "process_resident_memory",
            "Resident memory",
            bytes,
            &resident,
        )?;
        let size = ConstGauge::new(numbers.virtual_bytes);
        put("process_virtual_memory", "Virtual memory", bytes, &size)?;
        let threads = ConstGauge::new(numbers.threads);
        put("process_threads", "Threads", None, &threads)?;
        let open = ConstGauge::new(numbers.open_fds);
        put("process_open_fds", "Open file descriptors", None, &open)?;
        let most = ConstGauge::new(numbers.max_fds as f64);
        let help = "Most file descriptors that may be open";
        put("process_max_fds", help, None, &most)
    }
}

/// A metric of any type.
trait Encode {
    fn put(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> fmt::Result;
}

impl<M: EncodeMetric> Encode for M {
    fn put(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> fmt::Result {
        let encoder = encoder.encode_descriptor(name, help, unit, self.metric_type())?;
        self.encode(encoder)
    }
}

fn read() -> ProcResult<Numbers> {
    let this = Process::myself()?;
    let stat = this.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    let limit = match this.limits()?.max_open_files.soft_limit {
        LimitValue::Value(limit) => limit,
        LimitValue::Unlimited => u64::MAX,
    };
    Ok(Numbers {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        start_seconds: KernelStats::current()?.btime as f64 + stat.starttime as f64 / ticks,
        resident_bytes: stat.rss * procfs::page_size(),
        virtual_bytes: stat.vsize,
        threads: stat.num_threads,
        open_fds: this.fd_count()? as u64,
        max_fds: limit,
    })
}
