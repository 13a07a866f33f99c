//! `picket selftest`
//!
//! ```text
//!   this pod ──▶ server: answers ──▶ a policy denies: no answer ──▶ another allows this pod: answers again
//! ```
//!
//! What is made belongs to this pod, so that it goes with it at the latest.

mod connect;
mod objects;

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, PostParams};

use self::objects::Client;
use super::{Outcome, stop};
use crate::cli::Selftest;
use crate::kubernetes::{connect as connect_to, words};

/// How often is looked. That takes the right to get, and not to watch.
const LOOK: Duration = Duration::from_millis(200);

/// So many connections in a row that come to nothing are no accident.
const DENIED: usize = 2;

pub(super) fn run(arguments: &Selftest) -> anyhow::Result<Outcome> {
    stop::runtime()?.block_on(async {
        let test = Test::new(arguments).await?;
        let stopped = stop::stopped()?;
        let outcome = tokio::select! {
            outcome = test.run() => outcome,
            () = stopped => Err(anyhow::anyhow!("told to end before it was done")),
        };
        match (outcome, test.clean_up().await) {
            (outcome, Ok(())) => outcome,
            (Ok(_), Err(error)) => Err(error),
            (Err(first), Err(error)) => Err(anyhow::anyhow!("{first:#}\n{error:#}")),
        }
    })
}

struct Test<'a> {
    arguments: &'a Selftest,
    pods: Api<Pod>,
    policies: Api<NetworkPolicy>,
    /// This pod.
    client: Client,
}

/// The pod that answers.
struct Server {
    node: String,
    addresses: Vec<IpAddr>,
}

impl<'a> Test<'a> {
    async fn new(arguments: &'a Selftest) -> anyhow::Result<Self> {
        let cluster = &arguments.cluster;
        let (kubeconfig, context) = (cluster.kubeconfig.as_deref(), cluster.context.as_deref());
        let api = connect_to(kubeconfig, context).await?;
        let namespace = match &arguments.namespace {
            Some(namespace) => namespace.clone(),
            None => api.default_namespace().to_owned(),
        };
        let name = arguments.pod.clone();
        let name = name
            .or_else(|| variable("POD_NAME"))
            .or_else(|| variable("HOSTNAME"));
        let name = name.context("which pod this is is not known: name it with --pod")?;
        let pods: Api<Pod> = Api::namespaced(api.clone(), &namespace);
        let pod = pods.get(&name).await;
        let pod = pod.map_err(|error| {
            let words = words(&error);
            anyhow::anyhow!("this pod, {namespace}/{name}, can not be read: {words}")
        })?;
        Ok(Self {
            arguments,
            pods,
            policies: Api::namespaced(api, &namespace),
            client: Client::new(pod, arguments.image.as_deref())?,
        })
    }

    async fn run(&self) -> anyhow::Result<Outcome> {
        // Of a container of this pod that was started before this one.
        self.clean_up().await?;
        let Some(server) = self.start().await? else {
            return Ok(Outcome::Findings);
        };
        let steps = [
            (None, true, "it answers"),
            (
                Some(self.client.deny()?),
                false,
                "a policy that denies all is in force",
            ),
            (
                Some(self.client.allow()?),
                true,
                "a policy that allows this pod is in force",
            ),
        ];
        for (policy, answers, what) in steps {
            if let Some(policy) = policy {
                let name = policy.metadata.name.as_deref().unwrap_or_default();
                self.create(&format!("NetworkPolicy {name}"), &self.policies, &policy)
                    .await?;
            }
            if !self.comes_to(&server, answers, what).await? {
                return Ok(Outcome::Findings);
            }
        }
        say("policies are enforced between these two pods")?;
        Ok(Outcome::Done)
    }

    /// Starts the server; nothing if it does not start in time.
    async fn start(&self) -> anyhow::Result<Option<Server>> {
        let pod = self.client.server()?;
        let name = self.client.server_name();
        let start = Instant::now();
        self.create(&format!("Pod {name}"), &self.pods, &pod)
            .await?;
        loop {
            let pod = self.pods.get(name).await;
            let pod =
                pod.map_err(|error| anyhow::anyhow!("can not get Pod {name}: {}", words(&error)))?;
            if let Some(server) = objects::server(&pod) {
                let addresses = self.client.reachable(&server.addresses);
                anyhow::ensure!(
                    !addresses.is_empty(),
                    "Pod {name} has no address of a family that this pod has: {:?}",
                    server.addresses
                );
                let server = Server {
                    addresses,
                    ..server
                };
                let seconds = start.elapsed().as_secs_f64();
                say(&format!(
                    "ok      {seconds:6.1} s  Pod {name} is ready on node {}, at {}",
                    server.node,
                    listed(&server.addresses)
                ))?;
                return Ok(Some(server));
            }
            if start.elapsed() >= self.arguments.timeout {
                let why = objects::unready(&pod);
                say(&format!(
                    "failed            Pod {name} is not ready in time: {why}"
                ))?;
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Connects until all addresses answer, or none does. Says whether it comes to that in time.
    async fn comes_to(&self, server: &Server, answers: bool, what: &str) -> anyhow::Result<bool> {
        let start = Instant::now();
        let (mut in_a_row, mut since) = (0, Duration::ZERO);
        loop {
            if in_a_row == 0 {
                since = start.elapsed();
            }
            let results = connect::all(&server.addresses, objects::PORT).await;
            let as_wanted = results.iter().all(|(_, result)| result.is_ok() == answers);
            in_a_row = if as_wanted { in_a_row + 1 } else { 0 };
            if as_wanted && (answers || in_a_row >= DENIED) {
                let seconds = since.as_secs_f64();
                say(&format!("ok      {seconds:6.1} s  {what}"))?;
                return Ok(true);
            }
            if !as_wanted && start.elapsed() >= self.arguments.policy_timeout {
                say(&format!("failed            not so: {what}"))?;
                for (address, result) in results {
                    match result {
                        Ok(()) if !answers => say(&format!(
                            "        {address} still answers this pod, on node {}: see picket status on node {}",
                            self.client.node(),
                            server.node
                        ))?,
                        Err(error) if answers => say(&format!(
                            "        {address} does not answer this pod, on node {}: {error}; is there another policy that selects one of both?",
                            self.client.node()
                        ))?,
                        _ => {}
                    }
                }
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn create<K>(&self, what: &str, api: &Api<K>, object: &K) -> anyhow::Result<()>
    where
        K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let start = Instant::now();
        loop {
            match api.create(&PostParams::default(), object).await {
                // One from before that is being deleted.
                Err(kube::Error::Api(status))
                    if status.code == 409 && start.elapsed() < self.arguments.timeout =>
                {
                    tokio::time::sleep(LOOK).await;
                }
                created => {
                    let created = created.map(drop);
                    return created.map_err(|error| {
                        anyhow::anyhow!("can not create {what}: {}", words(&error))
                    });
                }
            }
        }
    }

    /// Deletes whatever there is of what is made here.
    async fn clean_up(&self) -> anyhow::Result<()> {
        let params = DeleteParams::background();
        let mut failures = Vec::new();
        let mut gone = |what: &str, name: &str, deleted: Result<(), kube::Error>| match deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => failures.push(format!("can not delete {what} {name}: {}", words(&error))),
            Ok(()) => {}
        };
        for name in self.client.policies() {
            let deleted = self.policies.delete(&name, &params).await.map(drop);
            gone("NetworkPolicy", &name, deleted);
        }
        let name = self.client.server_name();
        let deleted = self.pods.delete(name, &params).await.map(drop);
        gone("Pod", name, deleted);
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
        Ok(())
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn listed(addresses: &[IpAddr]) -> String {
    let addresses = addresses.iter().map(ToString::to_string);
    addresses.collect::<Vec<_>>().join(" and ")
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
