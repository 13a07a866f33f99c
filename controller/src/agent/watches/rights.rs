//! What the account may not do, before it is needed: an agent that may only watch works until it has to list.
//!
//! The API server is asked what it would say (SelfSubjectAccessReview of authorization.k8s.io/v1, which
//! `system:basic-user` lets everybody ask). Nothing depends on the answer but what people are told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::backoff::Backoff;
use crate::kubernetes::{Client, Error, Resource};

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// Whether a right that is missing is there by now is asked at the latest after so long.
const AGAIN: Duration = Duration::from_secs(600);

/// What may be done to a resource.
#[derive(Clone, Copy, Debug)]
struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
}

fn all() -> Vec<Right> {
    let of = |resource: Resource| {
        ["list", "watch"].map(|verb| Right {
            verb,
            group: resource.group(),
            resource: resource.name(),
        })
    };
    let events = ["create", "patch"].map(|verb| Right {
        verb,
        group: "events.k8s.io",
        resource: "events",
    });
    let read = Resource::ALL.into_iter().flat_map(of);
    read.chain(events).collect()
}

impl Right {
    /// As a ClusterRole has it.
    fn name(self) -> String {
        let Self {
            verb,
            group,
            resource,
        } = self;
        match group {
            "" => format!("{verb} {resource}"),
            group => format!("{verb} {resource}.{group}"),
        }
    }

    async fn is_given(self, client: &Client) -> Result<bool, Error> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": self.verb,
                "group": self.group,
                "resource": self.resource,
            }},
        });
        let answer = client.create(REVIEWS, &review).await?;
        // Whatever else it says, it does not say that this is missing.
        Ok(answer["status"]["allowed"] != json!(false))
    }
}

/// Asks, and says what is missing; again where another cluster is asked. It never ends.
pub(super) async fn watch(client: Arc<Client>, missing: watch::Sender<Option<String>>) {
    let mut moves = client.moves();
    loop {
        let asked = async {
            ask(&client, &missing).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            moved = moves.changed() => if moved.is_err() {
                return;
            },
            () = asked => {}
        }
    }
}

/// Asks until nothing is missing, or the API server does not answer such questions.
async fn ask(client: &Client, missing: &watch::Sender<Option<String>>) {
    let mut open = all();
    let mut backoff = Backoff::default();
    loop {
        let (mut denied, mut unknown) = (Vec::new(), Vec::new());
        for right in open {
            match right.is_given(client).await {
                Ok(true) => {}
                Ok(false) => denied.push(right),
                Err(Error::Refused(refusal)) if matches!(refusal.code, 403..=405) => {
                    missing.send_replace(None);
                    return;
                }
                Err(_) => unknown.push(right),
            }
        }
        let names: Vec<_> = denied.iter().map(|right| right.name()).collect();
        let text = (!names.is_empty()).then(|| {
            let names = names.join(", ");
            format!("the account may not {names}: its ClusterRole lacks it")
        });
        missing.send_if_modified(|before| {
            let is_news = *before != text;
            *before = text;
            is_news
        });
        let wait = match (denied.is_empty(), unknown.is_empty()) {
            (true, true) => return,
            (_, false) => backoff.next(None),
            (false, true) => backoff.up_to(AGAIN, None),
        };
        open = [denied, unknown].concat();
        sleep(wait).await;
    }
}
