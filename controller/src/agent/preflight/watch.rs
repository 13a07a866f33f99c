//! Preflight that goes on: bridges come after the agent, and others clear their flags.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use kernel::{Kind, LinkError, LinkEvent, LinkWatch};
use tokio::sync::watch::{Receiver, Sender, channel};
use tracing::{error, info, warn};

use super::{Finding, Options, Severity, of_bridges, of_the_rest};

/// How often bridges are looked at though no event came: the namespace's settings have none.
const BRIDGES: Duration = Duration::from_secs(10);

/// So long after a look no event leads to the next one: who undoes what is set is not to keep both busy.
const REST: Duration = Duration::from_millis(200);

/// How often everything is looked at: rules of others may be very many.
const EVERYTHING: Duration = Duration::from_secs(600);

/// Bytes for events that were not read yet. Lost ones are made good by a look.
const EVENTS: usize = 1 << 20;

/// Looks at everything, and goes on to do so on a thread of its own, in the network namespace of the calling thread: at
/// bridges when one comes or changes, so that packets inside a new one pass our rules from then on
/// ([`Options::set_bridge_netfilter`]), and now and then at all. What is found is written to the log, and told.
///
/// The sender is gone when the thread has failed.
///
/// # Errors
/// There can be no thread.
pub fn watch(options: Options) -> io::Result<Receiver<Vec<String>>> {
    // First: what comes after the look is heard of.
    let links = LinkWatch::open(EVENTS);
    let mut surroundings = Surroundings::default();
    surroundings.look_at_everything(&options);
    let (publish, found) = channel(surroundings.lines());
    let look = move || look(links, surroundings, &options, &publish);
    thread::Builder::new()
        .name("preflight".to_owned())
        .spawn(look)?;
    Ok(found)
}

/// What was found last.
#[derive(Debug, Default)]
struct Surroundings {
    bridges: Vec<Finding>,
    rest: Vec<Finding>,
}

impl Surroundings {
    fn look_at_bridges(&mut self, options: &Options) {
        let found = of_bridges(options);
        report(&self.bridges, &found);
        self.bridges = found;
    }

    fn look_at_everything(&mut self, options: &Options) {
        // Without the kernel's features there is nothing that bridges could hand packets to.
        let found = of_the_rest(options);
        report(&self.rest, &found);
        self.rest = found;
        self.look_at_bridges(options);
    }

    fn lines(&self) -> Vec<String> {
        let mut all: Vec<_> = self.bridges.iter().chain(&self.rest).collect();
        all.sort();
        all.iter().map(ToString::to_string).collect()
    }
}

fn look(
    links: Result<LinkWatch, LinkError>,
    mut surroundings: Surroundings,
    options: &Options,
    publish: &Sender<Vec<String>>,
) {
    let mut links = links.ok();
    let mut next = Instant::now() + EVERYTHING;
    while !publish.is_closed() {
        wait(&mut links);
        if Instant::now() >= next {
            next = Instant::now() + EVERYTHING;
            surroundings.look_at_everything(options);
        } else {
            surroundings.look_at_bridges(options);
        }
        let lines = surroundings.lines();
        publish.send_if_modified(|last| {
            let is_new = *last != lines;
            *last = lines;
            is_new
        });
    }
}

/// Until a bridge came, went or changed, or it is time to look anyway.
fn wait(links: &mut Option<LinkWatch>) {
    thread::sleep(REST);
    let end = Instant::now() + BRIDGES;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let Some(watch) = links else {
            thread::sleep(left);
            *links = LinkWatch::open(EVENTS).ok();
            return;
        };
        match watch.wait(left) {
            Ok(events) if events.iter().any(is_of_a_bridge) => return,
            Ok(_) => {}
            Err(_) => *links = None,
        }
    }
}

fn is_of_a_bridge(event: &LinkEvent) -> bool {
    match event {
        LinkEvent::Link(link) | LinkEvent::Gone(link) => link.kind == Kind::Bridge,
        LinkEvent::Overrun => true,
        LinkEvent::Address(_) | LinkEvent::AddressGone(_) => false,
    }
}

/// Writes what is new, and what is no longer so.
fn report(before: &[Finding], now: &[Finding]) {
    for finding in now.iter().filter(|finding| !before.contains(finding)) {
        let (code, message) = (finding.code, &finding.message);
        match finding.severity {
            Severity::Error => error!(?code, "{message}"),
            Severity::Warning => warn!(?code, "{message}"),
            Severity::Note => info!(?code, "{message}"),
        }
    }
    for finding in before.iter().filter(|finding| !now.contains(finding)) {
        if finding.severity != Severity::Note {
            info!(code = ?finding.code, "no longer so: {}", finding.message);
        }
    }
}
