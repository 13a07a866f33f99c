//! `picket idle`

use std::io::{self, Write};

use super::{Outcome, stop};

pub(super) fn run() -> anyhow::Result<Outcome> {
    stop::runtime()?.block_on(async {
        let stopped = stop::stopped()?;
        writeln!(io::stdout(), "there is nothing to do until SIGTERM")?;
        stopped.await;
        Ok(Outcome::Done)
    })
}
