//! An agent that may not do what it needs says what that is.

use crate::api_server::Program;
use crate::cluster::{Cluster, EVENTS, RIGHTS, Right, without};
use crate::live::Agent;
use crate::manifests::{CHANGING, pod};

fn of_verb(verb: &str) -> Vec<Right> {
    let rights = RIGHTS.into_iter();
    rights.filter(|(_, _, other)| *other == verb).collect()
}

/// Waits until status and log say so of each, in the API server's own words.
fn until_named(cluster: &mut Cluster, agent: &Agent, missing: &[Right]) {
    for (_, resource, verb) in missing {
        let words = format!("cannot {verb} resource \"{resource}\"");
        let what = format!("it says that it may not {verb} {resource}");
        cluster.until(&what, agent, |cluster| {
            let (is_well, status) = cluster.status();
            !is_well && status.contains(&words) && agent.log().contains(&words)
        });
    }
}

fn until_well(cluster: &mut Cluster, agent: &Agent) {
    cluster.until("nothing is wrong", agent, |cluster| cluster.status().0);
}

/// The agent enforces without them: the API server lists at the beginning of a watch.
#[test]
fn what_is_not_needed_yet_is_named_at_the_start_and_no_longer_when_it_is_there() {
    let mut cluster = Cluster::new();
    let missing = [of_verb("list"), EVENTS.to_vec()].concat();
    cluster.server.permit(&cluster.account, &without(&missing));
    let agent = cluster.started();
    let names = [
        "list namespaces",
        "list nodes",
        "list pods",
        "list networkpolicies.networking.k8s.io",
        "create events.events.k8s.io",
        "patch events.events.k8s.io",
    ];
    let words = format!("may not {}", names.join(", "));
    cluster.until("what is missing is named", &agent, |cluster| {
        let (is_well, status) = cluster.status();
        !is_well && status.contains(&words) && agent.log().contains(&words)
    });
    cluster.server.permit(&cluster.account, &without(&EVENTS));
    let words = format!("may not {}", names[4..].join(", "));
    cluster.until("what is still missing is named", &agent, |cluster| {
        cluster.status().1.contains(&words)
    });
    cluster.server.permit(&cluster.account, &without(&[]));
    until_well(&mut cluster, &agent);
}

/// To list is not needed yet: the API server lists at the beginning of a watch.
#[test]
fn a_watch_that_is_forbidden_at_the_start_is_named_and_waited_for() {
    let mut cluster = Cluster::new();
    for right in of_verb("watch") {
        cluster.server.permit(&cluster.account, &without(&[right]));
        let agent = cluster.start();
        until_named(&mut cluster, &agent, &[right]);
        assert!(!cluster.is_ready(), "{right:?}");
        cluster.server.permit(&cluster.account, &without(&[]));
        cluster.until("it is ready", &agent, |cluster| cluster.is_ready());
        cluster.quiet(&agent);
        until_well(&mut cluster, &agent);
        agent.kill();
    }
}

#[test]
fn a_right_that_is_taken_away_is_named_and_what_was_in_force_stays() {
    for verb in ["list", "watch"] {
        let mut cluster = Cluster::new();
        let agent = cluster.started();
        let missing = of_verb(verb);
        cluster.server.permit(&cluster.account, &without(&missing));
        // Whoever watches already goes on until the connection ends.
        cluster.server.kill(Program::ApiServer);
        cluster.server.run(Program::ApiServer);
        until_named(&mut cluster, &agent, &missing);
        assert!(cluster.is_ready(), "{verb}");
        assert!(cluster.live.held() == cluster.live.wanted(), "{verb}");
        cluster.server.permit(&cluster.account, &without(&[]));
        cluster.put("pod", &pod(CHANGING[0], "one"));
        cluster.quiet(&agent);
        until_well(&mut cluster, &agent);
    }
}
