//! What a process takes, and figures with their spread.

use std::fmt;
use std::time::Duration;

use procfs::ProcResult;
use procfs::process::Process;

/// What this process has taken so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// `VmRSS`, in MB of 10^6 bytes.
    pub(crate) resident: f64,
    /// `VmHWM`: the most that was resident at any time.
    pub(crate) most_resident: f64,
    /// Time on a processor, user and system.
    pub(crate) processor: Duration,
}

impl Taken {
    pub(crate) fn now() -> ProcResult<Self> {
        let this = Process::myself()?;
        let (stat, status) = (this.stat()?, this.status()?);
        let megabytes = |kibibytes: Option<u64>| kibibytes.unwrap_or(0) as f64 * 1024.0 / 1e6;
        let ticks = (stat.utime + stat.stime) as f64;
        Ok(Self {
            resident: megabytes(status.vmrss),
            most_resident: megabytes(status.vmhwm),
            processor: Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64),
        })
    }
}

/// The median of some numbers, and where the middle half of them lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

impl Figure {
    pub(crate) fn of(mut numbers: Vec<f64>) -> Self {
        Self {
            median: percentile(&mut numbers, 50),
            low: percentile(&mut numbers, 25),
            high: percentile(&mut numbers, 75),
        }
    }
}

impl fmt::Display for Figure {
    /// `    1.23   (1.20 to 1.31)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, low, high } = self;
        write!(f, "{median:>9.2}   ({low:.2} to {high:.2})")
    }
}

/// Of so many percent of the numbers none is greater. 0 without numbers.
pub(crate) fn percentile(numbers: &mut [f64], percent: usize) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    let last = numbers.len().saturating_sub(1);
    let index = (last * percent).div_ceil(100);
    numbers.get(index).copied().unwrap_or_default()
}
