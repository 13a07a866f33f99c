//! `picket cleanup`

mod inside;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use cni_chain::quarantine::{self, ACTIVE, ALIAS_PREFIX, QUARANTINE};
use kernel::conntrack::{self, Conntrack, Filter, MarkChange, Masked};
use kernel::{LinkError, Links, Nftables, STAND_IN};
use policy_compiler::lower::RevokedBit;
use policy_compiler::ruleset::TABLE;

use super::Outcome;
use super::stop::Waits;
use crate::agent::alone::{Alone, AloneError};
use crate::agent::rundir::{RunDir, RunDirError};
use crate::cli::Cleanup;

/// How often connections are listed again: those that are confirmed in the meantime may have the bit still.
const PASSES: usize = 20;

/// How often is looked whether an agent has ended: of two locks the kernel tells nothing.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &Cleanup) -> anyhow::Result<Outcome> {
    // Held to the end, so that no agent starts in the middle.
    let (run_dir, _alone) = take(arguments)?;
    let mut out = io::stdout().lock();
    let mut failures = Vec::new();
    let mut is_clean = true;

    match remove_tables() {
        Ok(tables) => {
            is_clean &= tables.is_empty();
            for table in tables {
                writeln!(out, "removed table {table}")?;
            }
        }
        Err(error) => failures.push(format!("tables: {error:#}")),
    }
    // Without tables nobody looks at the bit, so it is the last that goes.
    match clear_marks(arguments.mark_bit) {
        Ok(0) => {}
        Ok(count) => {
            is_clean = false;
            writeln!(out, "cleared the bit of {count} connections")?;
        }
        Err(error) => failures.push(format!("marks of connections: {error:#}")),
    }
    match release() {
        Ok(0) => {}
        Ok(count) => {
            is_clean = false;
            writeln!(out, "let go of {count} interfaces of pods")?;
        }
        Err(error) => failures.push(format!("interfaces of pods: {error:#}")),
    }
    match Nftables::open().and_then(|mut nftables| nftables.delete_tables(&[quarantine::TABLE])) {
        Ok(tables) => {
            for table in tables {
                is_clean = false;
                writeln!(out, "removed table {table}")?;
            }
        }
        Err(error) => failures.push(format!("the quarantine: {error:#}")),
    }
    // By the records, which go with the directory.
    let (pods, failed) = inside::remove(run_dir.path());
    if pods > 0 {
        is_clean = false;
        writeln!(
            out,
            "removed the rules in the network namespaces of {pods} pods"
        )?;
    }
    let path = run_dir.path().to_owned();
    if failed.is_empty() {
        if let Err(error) = run_dir.remove() {
            failures.push(format!("{}: {error}", path.display()));
        }
    } else {
        // The next call finds them by it.
        let stays = path.display();
        failures.extend(failed.into_iter().map(|failure| {
            format!("rules in a pod's network namespace: {failure}: {stays} stays, call it again where that can be opened")
        }));
    }
    if is_clean && failures.is_empty() {
        writeln!(out, "there was nothing of picket")?;
    }
    out.flush()?;
    anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(Outcome::Done)
}

/// Takes the place of an agent, once it has ended.
fn take(arguments: &Cleanup) -> anyhow::Result<(RunDir, Alone)> {
    let start = Instant::now();
    let mut waits = Waits::new()?;
    let mut is_told = false;
    loop {
        let held: anyhow::Error = match RunDir::hold(&arguments.run_dir.run_dir) {
            Ok(run_dir) => match Alone::take() {
                Ok(alone) => return Ok((run_dir, alone)),
                Err(error @ AloneError::Held { .. }) => error.into(),
                Err(error) => return Err(error.into()),
            },
            Err(error @ RunDirError::Held { .. }) => error.into(),
            Err(error) => return Err(error.into()),
        };
        if arguments.wait.is_none_or(|wait| start.elapsed() >= wait) {
            return Err(held);
        }
        if !is_told {
            super::say(&[format!("{held:#}; waiting for it to end")])?;
            is_told = true;
        }
        let waited = waits.sleep(LOOK);
        waited.with_context(|| format!("{held:#}; nothing was removed"))?;
    }
}

fn remove_tables() -> anyhow::Result<Vec<kernel::TableName>> {
    Ok(Nftables::open()?.delete_tables(&[TABLE, STAND_IN])?)
}

/// Takes our groups and aliases off interfaces, and returns of how many.
fn release() -> anyhow::Result<usize> {
    let mut links = Links::open()?;
    let mut released = 0;
    for link in links.list()? {
        let is_tagged = [QUARANTINE, ACTIVE].contains(&link.group);
        // One that goes in the meantime is no failure.
        let there = |links: &mut Links, done: Result<(), LinkError>| match done {
            Err(_) if matches!(links.by_index(link.index), Ok(None)) => Ok(()),
            done => done,
        };
        if is_tagged {
            let done = links.set_group(&link, 0);
            there(&mut links, done)?;
        }
        let is_named = link.alias.as_ref();
        let is_named = is_named.is_some_and(|alias| alias.starts_with(ALIAS_PREFIX));
        if is_named {
            let done = links.set_alias(&link, "");
            there(&mut links, done)?;
        }
        released += usize::from(is_tagged || is_named);
    }
    Ok(released)
}

/// Returns how many connections had the bit.
fn clear_marks(bit: RevokedBit) -> anyhow::Result<usize> {
    let mut conntrack = Conntrack::open()?;
    let marked = Filter {
        mark: Some(Masked::set(bit.bits())),
        ..Filter::default()
    };
    let mut cleared = 0;
    for _ in 0..PASSES {
        let mut connections = Vec::new();
        let dumped = conntrack.dump(&marked, |entry| connections.push(entry.connection()));
        let whole = match dumped {
            Ok(()) => true,
            Err(conntrack::Error::Interrupted) => false,
            Err(error) => return Err(error.into()),
        };
        if whole && connections.is_empty() {
            return Ok(cleared);
        }
        let clear = MarkChange::clear(bit.bits());
        let changes = connections
            .into_iter()
            .map(|connection| (connection, clear));
        cleared += conntrack.change_marks(changes)?.changed;
    }
    anyhow::bail!(
        "connections with the bit go on to appear: is it another program's? --mark-bit names ours"
    )
}
