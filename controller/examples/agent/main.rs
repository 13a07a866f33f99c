//! What an event costs the agent until the kernel has it: `cargo run --release -p controller --example agent`. Needs
//! root.
//!
//! A node with 250 pods in clusters of growing size, of 1,000 namespaces with 10 policies each. Pods come, go, get other
//! labels and other addresses, one event of twenty on the node itself, at times that look like chance. The agent is the
//! one of `picket agent`, engine, nftables and revoker, in a network namespace of its own. It is fed by a source that
//! makes the objects, so that the memory is the agent's; each size has a process of its own.
//!
//! An event's latency is the time from its sending to when all that it changes is in force and told. Figures are medians
//! of rounds, with the middle half of the rounds. In the end come events one by one, of which the same is done from
//! nothing too (`compile`, `lower`, `delta`; what the kernel takes is not even added): a ratio carries further than times.

mod churn;
mod cluster;
mod measure;
mod node;

use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use controller::agent::snapshot::Snapshot;
use controller::agent::source::Change;
use kernel::Nftables;
use policy_compiler::compile::compile;
use policy_compiler::delta::delta;
use policy_compiler::index::{Object, ObjectId};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::Cluster;
use policy_compiler::ruleset::TABLE;
use tokio::sync::{mpsc as tokio_mpsc, oneshot, watch};

use self::churn::Churn;
use self::cluster::{LOCAL_PODS, NAMESPACES, NODE, POLICIES, Size};
use self::measure::{Figure, Taken, percentile};
use self::node::{Commit, Ends, Told};

/// How long to wait for a commit.
const LONGEST: Duration = Duration::from_secs(60);

/// So often others change our tables in each way: in a row, more are repaired later.
const REPAIRS: usize = 5;

/// What others do to our tables.
#[derive(Clone, Copy)]
enum Foreign {
    /// They take out one element.
    Element,
    /// They delete them.
    Flush,
}

/// Measures the agent under churn.
#[derive(Parser)]
struct Arguments {
    /// Pods of other nodes, for each cluster.
    #[arg(default_values_t = [0, 10_000, 100_000])]
    sizes: Vec<usize>,
    /// Pods have an IPv6 address too.
    #[arg(long)]
    dual_stack: bool,
    /// Events per second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Rounds of each cluster.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Events that are done from nothing too.
    #[arg(long, default_value_t = 11)]
    from_nothing: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let [elsewhere] = arguments.sizes[..] {
        let dual_stack = arguments.dual_stack;
        return one(
            Size {
                elsewhere,
                dual_stack,
            },
            &arguments,
        );
    }
    for size in &arguments.sizes {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(size.to_string());
        if arguments.dual_stack {
            command.arg("--dual-stack");
        }
        let (rate, rounds) = (arguments.rate.to_string(), arguments.rounds.to_string());
        let seconds = arguments.seconds.to_string();
        let from_nothing = arguments.from_nothing.to_string();
        command.args(["--rate", &rate, "--rounds", &rounds, "--seconds", &seconds]);
        command.args(["--from-nothing", &from_nothing]);
        ensure!(command.status()?.success(), "{size} pods: it failed");
    }
    Ok(())
}

/// What is measured of one cluster.
fn one(size: Size, arguments: &Arguments) -> anyhow::Result<()> {
    let before = Taken::now()?;
    let objects = Box::new(move || cluster::objects(size));
    let (change, changes) = tokio_mpsc::unbounded_channel();
    let (tell, told) = mpsc::channel();
    let (start, started) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let ends = Ends {
        objects,
        changes,
        started: start,
        told: tell,
        stop: stopped,
    };
    std::thread::scope(|scope| {
        let agent = scope.spawn(move || node::run(ends));
        let measured = started
            .recv()
            .map_err(Into::into)
            .and_then(|(snapshots, foreign)| {
                let load = Load {
                    churn: Churn::new(size),
                    changes: change,
                    told,
                    snapshots,
                    foreign,
                };
                load.measure(size, arguments, before)
            });
        drop(stop);
        let ended = agent.join();
        match ended {
            Ok(ended) => ended.and(measured),
            Err(_) => bail!("the agent panicked"),
        }
    })
}

/// Whoever sends events and waits for their commits.
struct Load {
    churn: Churn,
    changes: tokio_mpsc::UnboundedSender<(Instant, Change)>,
    told: Receiver<anyhow::Result<Told>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Somebody else's hand on the node's nftables.
    foreign: Nftables,
}

/// A round's figures, in milliseconds if nothing else is said.
struct Round {
    /// By [`PERCENTILES`].
    latencies: [f64; PERCENTILES.len()],
    /// What the index took of a commit, half of them and 99 of 100.
    index: [f64; 2],
    /// What planning and the kernel took of it.
    kernel: [f64; 2],
    /// Time on a processor per second.
    processor: f64,
    /// Events of a hundred after which connections were judged.
    judged: f64,
}

const PERCENTILES: [usize; 4] = [50, 90, 99, 100];

impl Load {
    fn measure(mut self, size: Size, arguments: &Arguments, before: Taken) -> anyhow::Result<()> {
        let first = self.commit()?;
        ensure!(first.sync.full, "the first commit is not of everything");
        let full = Taken::now()?;
        let closed = &self.snapshots.borrow().exceeded.clone();
        ensure!(closed.is_empty(), "over budget: {closed:?}");
        let rounds: Result<Vec<_>, _> = (0..arguments.rounds)
            .map(|_| self.round(arguments))
            .collect();
        let rounds = rounds?;
        let churned = Taken::now()?;
        let ratios: Result<Vec<_>, _> = (0..arguments.from_nothing)
            .map(|_| self.both_ways())
            .collect();
        let (nothing, ratios): (Vec<_>, Vec<_>) = ratios?.into_iter().unzip();
        let mut repairs = |change| (0..REPAIRS).map(|_| self.repair(change)).collect();
        let element: anyhow::Result<Vec<_>> = repairs(Foreign::Element);
        let flush: anyhow::Result<Vec<_>> = repairs(Foreign::Flush);
        let (element, flush) = (element?, flush?);

        let families = if size.dual_stack {
            "two addresses"
        } else {
            "one address"
        };
        println!(
            "{} policies in {NAMESPACES} namespaces, {LOCAL_PODS} pods here, {} elsewhere, {families} each; {} events/s",
            POLICIES * NAMESPACES,
            size.elsewhere,
            arguments.rate
        );
        println!("  {}", describe(&self.snapshots.borrow()));
        let line = |what: &str, unit: &str, of: &dyn Fn(&Round) -> f64| {
            let figure = Figure::of(rounds.iter().map(of).collect());
            println!("  {what:<38}{figure} {unit}");
        };
        let single =
            |what: &str, value: f64, unit: &str| println!("  {what:<38}{value:>9.2} {unit}");
        single("first full apply", first.sync.duration.as_secs_f64(), "s");
        single("  of that the rules", first.sync.compile.as_secs_f64(), "s");
        for (index, percent) in PERCENTILES.into_iter().enumerate() {
            let what = match percent {
                100 => "event to commit, the slowest".to_owned(),
                percent => format!("event to commit, p{percent}"),
            };
            line(&what, "ms", &|round| round.latencies[index]);
        }
        for (place, percent) in [50, 99].into_iter().enumerate() {
            let what = format!("  of that the index, p{percent}");
            line(&what, "ms", &|round| round.index[place]);
            let what = format!("  plan and kernel, p{percent}");
            line(&what, "ms", &|round| round.kernel[place]);
        }
        line("events that change something here", "%", &|round| {
            round.judged
        });
        line("time on a processor, per second", "ms", &|round| {
            round.processor
        });
        single("resident before all", before.resident, "MB");
        single("  after the first full apply", full.resident, "MB");
        single("  after the churn", churned.resident, "MB");
        single("  at most", churned.most_resident, "MB");
        for (what, figure) in [("an element", element), ("all tables", flush)] {
            let what = format!("repair of {what} that others took");
            println!("  {what:<38}{} ms", Figure::of(figure));
        }
        println!(
            "  {:<38}{} ms",
            "from nothing, an event",
            Figure::of(nothing)
        );
        println!(
            "  {:<38}{} times",
            "  to event to commit, the same event",
            Figure::of(ratios)
        );
        Ok(())
    }

    fn commit(&self) -> anyhow::Result<Commit> {
        let told = self.told.recv_timeout(LONGEST);
        match told.context("nothing was committed")?? {
            Told::Commit(commit) => Ok(commit),
            Told::Repaired => bail!("somebody else changed the tables"),
        }
    }

    /// Milliseconds from somebody's change of our tables to what was there before.
    fn repair(&mut self, change: Foreign) -> anyhow::Result<f64> {
        let now = Arc::clone(&self.snapshots.borrow());
        let start = match change {
            Foreign::Flush => {
                self.foreign.delete_tables(&[TABLE])?;
                Instant::now()
            }
            Foreign::Element => {
                let mut less = now.ruleset.clone();
                let set = less.tables[0].sets.get_mut("local4").context("no local4")?;
                let elements = &mut Arc::make_mut(set).elements;
                let first = elements.get_min().cloned().context("no pod")?;
                elements.remove(&first);
                let plan = delta(&now.ruleset, &less, self.foreign.generation()?.0);
                self.foreign.execute(&plan, None)?;
                Instant::now()
            }
        };
        match self
            .told
            .recv_timeout(LONGEST)
            .context("nothing was repaired")??
        {
            Told::Repaired => Ok(milliseconds(start.elapsed())),
            Told::Commit(_) => bail!("something was committed"),
        }
    }

    fn send(&self, change: Change) -> anyhow::Result<()> {
        let sent = self.changes.send((Instant::now(), change));
        sent.map_err(|_| anyhow::anyhow!("the agent has ended"))
    }

    fn round(&mut self, arguments: &Arguments) -> anyhow::Result<Round> {
        let before = Taken::now()?;
        let start = Instant::now();
        let events = (arguments.rate * arguments.seconds) as usize;
        let mut due = start;
        for _ in 0..events {
            due += self.churn.pause(arguments.rate);
            let event = self.churn.event();
            // An agent that is behind is not spared.
            sleep(due.saturating_duration_since(Instant::now()));
            self.send(event)?;
        }
        let (mut latencies, mut index, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
        let mut judged = 0;
        while latencies.len() < events {
            let Commit {
                latencies: these,
                sync,
                judged: is_judged,
            } = self.commit()?;
            judged += if is_judged { these.len() } else { 0 };
            latencies.extend(these.into_iter().map(milliseconds));
            index.push(milliseconds(sync.compile));
            kernel.push(milliseconds(sync.duration.saturating_sub(sync.compile)));
        }
        let processor = Taken::now()?.processor.saturating_sub(before.processor);
        Ok(Round {
            latencies: PERCENTILES.map(|percent| percentile(&mut latencies, percent)),
            index: [50, 99].map(|percent| percentile(&mut index, percent)),
            kernel: [50, 99].map(|percent| percentile(&mut kernel, percent)),
            processor: milliseconds(processor) / start.elapsed().as_secs_f64(),
            judged: 100.0 * f64::from(judged as u32) / events as f64,
        })
    }

    /// One event from nothing in milliseconds, and how many times as long as the agent takes for the same one that is.
    fn both_ways(&mut self) -> anyhow::Result<(f64, f64)> {
        let event = self.churn.event();
        let now = Arc::clone(&self.snapshots.borrow());
        let mut cluster = now.cluster.clone();
        let start = Instant::now();
        change(&mut cluster, event.clone());
        let ruleset = lower(&compile(&cluster, NODE), &Options::default());
        let plan = delta(&now.ruleset, &ruleset, now.generation);
        let nothing = milliseconds(start.elapsed());
        drop((plan, now));
        self.send(event)?;
        let latency: Vec<_> = self.commit()?.latencies;
        ensure!(latency.len() == 1, "a commit of {} events", latency.len());
        let is_right = self.snapshots.borrow().ruleset == ruleset;
        ensure!(
            is_right,
            "the agent has other rules in force than compile and lower make"
        );
        let latency: f64 = latency.into_iter().map(milliseconds).sum();
        Ok((nothing, nothing / latency))
    }
}

fn change(cluster: &mut Cluster, change: Change) {
    match change {
        Change::Apply(Object::Pod(pod)) => cluster.add_pod(pod),
        Change::Delete(ObjectId::Pod(id)) => cluster.remove_pod(&id),
        // Churn is of pods.
        Change::Apply(_) | Change::Delete(_) => {}
    }
}

fn describe(snapshot: &Snapshot) -> String {
    let tables = || snapshot.ruleset.tables.iter();
    let sets = || tables().flat_map(|table| table.sets.values());
    let chains = || tables().flat_map(|table| &table.chains);
    format!(
        "{} chains, {} rules, {} sets of {} elements, the largest of {}",
        chains().count(),
        chains().map(|chain| chain.rules.len()).sum::<usize>(),
        sets().count(),
        sets().map(|set| set.elements.len()).sum::<usize>(),
        sets()
            .map(|set| set.elements.len())
            .max()
            .unwrap_or_default(),
    )
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
