//! Service accounts that may do exactly what a test says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{ApiServer, PATIENCE};

/// Where the accounts are.
const NAMESPACE: &str = "accounts";

/// A service account.
pub(crate) struct Account {
    name: String,
    /// What proves to be it, for an hour.
    pub(crate) token: String,
    /// A file with that.
    pub(crate) kubeconfig: PathBuf,
}

/// That these may be done to a resource of an API group.
pub(crate) fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
        ..PolicyRule::default()
    }
}

impl ApiServer {
    /// Makes a service account that may do this in every namespace, and nothing else.
    pub(crate) fn account(&self, name: &str, rules: &[PolicyRule]) -> Account {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        });
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": NAMESPACE},
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        });
        self.apply_objects(vec![namespace, account, binding]);
        let token = self.ask(async |client| {
            let accounts: Api<ServiceAccount> = Api::namespaced(client, NAMESPACE);
            let request = TokenRequest {
                spec: Some(TokenRequestSpec {
                    expiration_seconds: Some(3600),
                    ..TokenRequestSpec::default()
                }),
                ..TokenRequest::default()
            };
            let params = PostParams::default();
            let answer = accounts.create_token_request(name, &params, &request);
            answer.await.unwrap().status.unwrap().token.unwrap()
        });
        let account = Account {
            name: name.to_owned(),
            kubeconfig: self.write_kubeconfig(name, &json!({"token": token})),
            token,
        };
        self.permit(&account, rules);
        account
    }

    /// Changes what the account may do, and waits until that holds.
    pub(crate) fn permit(&self, account: &Account, rules: &[PolicyRule]) {
        static REVISION: AtomicU64 = AtomicU64::new(0);
        // The authorizer follows roles by a watch, and takes one as a whole: once it knows this, it knows the rest.
        let revision = format!("/revision/{}", REVISION.fetch_add(1, Ordering::Relaxed));
        let known = PolicyRule {
            non_resource_urls: Some(vec![revision.clone()]),
            verbs: vec!["get".to_owned()],
            ..PolicyRule::default()
        };
        let rules = [rules, &[known]].concat();
        self.apply_objects(vec![json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": account.name},
            "rules": rules,
        })]);
        let review = serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "user": format!("system:serviceaccount:{NAMESPACE}:{}", account.name),
                "nonResourceAttributes": {"path": revision, "verb": "get"},
            },
        }));
        let review: SubjectAccessReview = review.unwrap();
        self.ask(async |client| {
            let reviews: Api<SubjectAccessReview> = Api::all(client);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let answer = reviews.create(&PostParams::default(), &review).await;
                if answer.unwrap().status.unwrap().allowed {
                    return;
                }
                assert!(Instant::now() < deadline, "the rules do not hold");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
}
