//! Every pair of ends.

use std::collections::BTreeSet;

use policy_compiler::model::Cluster;

use super::edges;
use crate::flow::{End, FamilyName, Question, resolve};

/// Every pod, node and edge address to every other, over every port at the edges of rules and that the
/// destination declares, in every family that both have.
pub fn every_pair(cluster: &Cluster) -> Vec<Question> {
    let rules = || cluster.policies.values().flat_map(edges::rules);
    let mut ends: Vec<_> = cluster.pods.keys().cloned().map(End::Pod).collect();
    ends.extend(cluster.nodes.keys().cloned().map(End::Node));
    ends.extend(edges::addresses(rules()).into_iter().map(End::Ip));
    let targets = edges::targets(cluster.pods.values(), rules());
    let mut asked = BTreeSet::new();
    let mut questions = Vec::new();
    for from in &ends {
        for to in ends.iter().filter(|to| *to != from) {
            for family in [FamilyName::Ipv4, FamilyName::Ipv6] {
                for target in &targets {
                    let (protocol, port) = edges::port(*target);
                    let question = Question {
                        id: Some((questions.len() + 1).into()),
                        line: None,
                        from: from.clone(),
                        to: to.clone(),
                        protocol,
                        port,
                        family: Some(family),
                    };
                    // An end that has no address, or a node and its hostNetwork pod, need not be asked twice.
                    let Ok(resolved) = resolve(cluster, &question) else {
                        continue;
                    };
                    let connection = resolved.connection;
                    let key = (
                        connection.source,
                        connection.destination,
                        connection.transport,
                    );
                    if connection.source != connection.destination && asked.insert(key) {
                        questions.push(question);
                    }
                }
            }
        }
    }
    questions
}
