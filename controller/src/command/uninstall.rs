//! `picket uninstall`

mod progress;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use kube::core::Selector;

use self::progress::{Progress, late};
use super::{Outcome, stop};
use crate::cli::Uninstall;
use crate::kubernetes::{connect, words};

/// How often it is asked. That takes the right to get, and not to watch.
const LOOK: Duration = Duration::from_millis(500);

/// So long may an API server that starts refuse what is allowed: it takes requests before it knows who may do what.
const REFUSED: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &Uninstall) -> anyhow::Result<Outcome> {
    stop::runtime()?.block_on(async {
        let cluster = &arguments.cluster;
        let client = connect(cluster.kubeconfig.as_deref(), cluster.context.as_deref()).await?;
        let work = Work {
            namespace: &arguments.namespace,
            daemonsets: Api::namespaced(client.clone(), &arguments.namespace),
            pods: Api::namespaced(client, &arguments.namespace),
            deadline: Instant::now() + arguments.timeout,
        };
        let stopped = stop::stopped()?;
        tokio::select! {
            outcome = work.run(arguments) => outcome,
            () = stopped => anyhow::bail!("told to end; run it again to go on"),
        }
    })
}

struct Work<'a> {
    namespace: &'a str,
    daemonsets: Api<DaemonSet>,
    pods: Api<Pod>,
    deadline: Instant,
}

impl Work<'_> {
    async fn run(&self, arguments: &Uninstall) -> anyhow::Result<Outcome> {
        if let Some(name) = &arguments.cleanup {
            // Before anything is deleted.
            self.get(name).await?.with_context(|| self.missing(name))?;
        }
        if let Some(name) = &arguments.daemonset
            && !self.delete(name).await?
        {
            return Ok(Outcome::Findings);
        }
        match &arguments.cleanup {
            Some(name) if !self.cleaned(name).await? => Ok(Outcome::Findings),
            _ => Ok(Outcome::Done),
        }
    }

    fn called(&self, name: &str) -> String {
        format!("DaemonSet {}/{name}", self.namespace)
    }

    fn missing(&self, name: &str) -> String {
        format!(
            "{} is not there, so that no node would be cleaned up: apply it first",
            self.called(name)
        )
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Deletes the agents, and says whether all of them have ended.
    async fn delete(&self, name: &str) -> anyhow::Result<bool> {
        let called = self.called(name);
        let Some(found) = self.get(name).await? else {
            say(&format!("{called} is gone"))?;
            return Ok(true);
        };
        let uid = found.metadata.uid.clone();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: uid.clone(),
                resource_version: None,
            }),
            // It stays until its pods have ended.
            ..DeleteParams::foreground()
        };
        let what = format!("delete {called}");
        let deleted = self.ask(&what, async || {
            match self.daemonsets.delete(name, &params).await {
                // It went, or became another, in the meantime: that is looked at below.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
                deleted => deleted.map(drop),
            }
        });
        deleted.await?;
        say(&format!("{called} is being deleted"))?;
        loop {
            match self.get(name).await? {
                None => break,
                Some(now) if now.metadata.uid != uid => {
                    anyhow::bail!("{called} was made anew: stop who does, and run it again")
                }
                Some(_) => {}
            }
            if self.is_late() {
                say(&format!("{called} is not gone in time; its agents run on:"))?;
                self.name_late(&found, |_| Some("is not gone".to_owned()), None)
                    .await?;
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
        say(&format!("{called} is gone, and its agents have ended"))?;
        Ok(true)
    }

    /// Says whether all nodes were cleaned up in time.
    async fn cleaned(&self, name: &str) -> anyhow::Result<bool> {
        let mut last = None;
        loop {
            let found = self.get(name).await?.with_context(|| self.missing(name))?;
            let progress = Progress::of(&found);
            if last != Some(progress) {
                say(&progress.to_string())?;
                last = Some(progress);
            }
            if progress.is_complete() {
                return Ok(true);
            }
            if self.is_late() {
                let called = self.called(name);
                say(&format!("{called} is not ready everywhere in time:"))?;
                self.name_late(&found, late, progress.nodes()).await?;
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Says on which nodes there are pods of the DaemonSet that are late, and how many have none.
    async fn name_late(
        &self,
        set: &DaemonSet,
        late: impl Fn(&Pod) -> Option<String>,
        nodes: Option<usize>,
    ) -> anyhow::Result<()> {
        let selector = Selector::try_from(set.spec.selector.clone())?;
        let params = ListParams::default().labels_from(&selector);
        let listed = match self.pods.list(&params).await {
            Ok(listed) => listed.items,
            Err(error) => return say(&format!("  its pods can not be listed: {}", words(&error))),
        };
        let is_of = |pod: &Pod| {
            let mut owners = pod.metadata.owner_references.iter().flatten();
            owners.any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
        };
        let pods: Vec<_> = listed.iter().filter(|pod| is_of(pod)).collect();
        let mut lines: Vec<_> = pods
            .iter()
            .filter_map(|pod| {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                Some(format!(
                    "  node {}: pod {name} {}",
                    progress::node(pod),
                    late(pod)?
                ))
            })
            .collect();
        lines.sort();
        if let Some(without @ 1..) = nodes.map(|nodes| nodes.saturating_sub(pods.len())) {
            lines.push(format!("  nodes without a pod of it: {without}"));
        }
        lines.iter().try_for_each(|line| say(line))
    }

    async fn get(&self, name: &str) -> anyhow::Result<Option<DaemonSet>> {
        let what = format!("get {}", self.called(name));
        self.ask(&what, async || self.daemonsets.get_opt(name).await)
            .await
    }

    /// Asks until there is an answer, or no time is left. A refusal that lasts is an answer.
    async fn ask<T>(
        &self,
        what: &str,
        ask: impl AsyncFn() -> Result<T, kube::Error>,
    ) -> anyhow::Result<T> {
        let mut is_told = false;
        let start = Instant::now();
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_refused = is_refusal(&error) && start.elapsed() >= REFUSED;
            if is_refused || self.is_late() {
                anyhow::bail!("can not {what}: {}", words(&error));
            }
            if !is_told {
                super::say(&[format!(
                    "can not {what} now, and goes on: {}",
                    words(&error)
                )])?;
                is_told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether asking again is of no use: what is asked for is wrong or forbidden.
fn is_refusal(error: &kube::Error) -> bool {
    // 408 and 429: not now.
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && ![408, 429].contains(&status.code))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
