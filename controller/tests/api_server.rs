//! The API server that other tests run is one: of the pinned version, with rules about who may do what, and with data that
//! stay when it starts anew.

#![allow(clippy::unwrap_used)]

#[path = "support/api_server/mod.rs"]
mod api_server;
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api_server::{ApiServer, PATIENCE, Program, rule};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, Error, ResourceExt};
use testbed::Namespace;

/// Objects of every kind that picket reads.
const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, image: registry.example/web:1}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: \"fd00::1\"}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden, namespace: shop}
";

fn namespace() -> Namespace {
    let namespace = Namespace::new().expect("these tests need root");
    namespace.ip(&["link", "set", "lo", "up"]).unwrap();
    namespace
}

fn started() -> ApiServer {
    let start = Instant::now();
    let server = ApiServer::start(&namespace());
    println!("ready after {:?}", start.elapsed());
    server
}

/// The names and versions of all pods, nodes and policies.
async fn versions(client: &Client) -> Vec<(String, Option<String>)> {
    async fn of<K>(client: &Client) -> Vec<(String, Option<String>)>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug,
        K: serde::de::DeserializeOwned,
    {
        let all: Api<K> = Api::all(client.clone());
        let list = all.list(&ListParams::default()).await.unwrap();
        let list = list.iter();
        list.map(|object| (object.name_any(), object.resource_version()))
            .collect()
    }
    [
        of::<Pod>(client).await,
        of::<Node>(client).await,
        of::<NetworkPolicy>(client).await,
    ]
    .concat()
}

fn is_forbidden<T>(answer: Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Api(status)) if status.code == 403)
}

#[test]
fn its_version_is_the_pinned_one() {
    let server = started();
    let version = server.ask(async |client| client.apiserver_version().await.unwrap());
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
        let pinned = include_str!("../../testdata/kube-apiserver/go.mod");
        let pinned = format!("k8s.io/kubernetes {}", version.git_version) == pinned_line(pinned);
        assert!(pinned, "{version:?}");
    }
    let minor = version.git_version.split('.').nth(1).unwrap();
    assert_eq!((&*version.major, &*version.minor), ("1", minor));
}

fn pinned_line(go_mod: &str) -> String {
    let line = go_mod
        .lines()
        .map(|line| line.trim_start_matches("require").trim())
        .find(|line| line.starts_with("k8s.io/kubernetes "));
    let line = line.unwrap();
    line.trim_end_matches("// indirect").trim().to_owned()
}

#[test]
fn objects_are_as_they_were_written_and_change_and_go() {
    let server = started();
    server.apply(OBJECTS);
    let shown = || {
        server.ask(async |client| {
            let pods: Api<Pod> = Api::namespaced(client, "shop");
            pods.get_opt("web").await.unwrap()
        })
    };
    let pod = shown().unwrap();
    let status = pod.status.unwrap();
    let addresses = status.pod_ips.unwrap().into_iter().map(|ip| ip.ip);
    assert_eq!(addresses.collect::<Vec<_>>(), ["10.0.0.1", "fd00::1"]);
    assert_eq!(status.phase.unwrap(), "Running");
    assert_eq!(pod.metadata.labels.unwrap()["app"], "web");
    let bare = OBJECTS.replace(", labels: {app: web}", "");
    server.apply(&bare);
    assert_eq!(shown().unwrap().metadata.labels, None);
    let pod = OBJECTS.split("---").find(|text| text.contains("kind: Pod"));
    server.delete(pod.unwrap());
    assert!(shown().is_none());
}

#[test]
fn a_service_account_may_do_what_its_rules_say_and_nothing_else() {
    let server = started();
    server.apply(OBJECTS);
    let account = server.account("reader", &[rule("", "pods", &["list", "watch"])]);
    let ask = async |client: Client| {
        let pods: Api<Pod> = Api::all(client.clone());
        let secrets: Api<Secret> = Api::all(client);
        let list = ListParams::default();
        let watch = WatchParams::default().timeout(1);
        let watched = match pods.watch(&watch, "0").await {
            Ok(events) => first(events).await,
            Err(error) => Err(error),
        };
        [
            pods.list(&list).await.map(drop),
            watched,
            pods.get("web").await.map(drop),
            secrets.list(&list).await.map(drop),
        ]
    };
    let [list, watched, get, secrets] = server.ask_as(&account.kubeconfig, ask);
    list.unwrap();
    watched.unwrap();
    assert!(is_forbidden(get));
    assert!(is_forbidden(secrets));
    server.permit(&account, &[rule("", "secrets", &["list"])]);
    let [list, watched, get, secrets] = server.ask_as(&account.kubeconfig, ask);
    assert!(is_forbidden(list));
    assert!(is_forbidden(watched));
    assert!(is_forbidden(get));
    secrets.unwrap();
    // Nobody is let in who has no token.
    let nobody = server.nobody();
    assert!(server.ask_as(&nobody, ask).into_iter().all(is_forbidden));
}

/// The first event of a watch of pods is the one that is there.
async fn first(
    events: impl futures::Stream<Item = Result<WatchEvent<Pod>, Error>>,
) -> Result<(), Error> {
    let mut events = std::pin::pin!(events);
    let event = futures::StreamExt::next(&mut events).await;
    match event.expect("an event") {
        Ok(WatchEvent::Added(pod)) => assert_eq!(pod.name_any(), "web"),
        Ok(other) => panic!("{other:?}"),
        Err(error) => return Err(error),
    }
    Ok(())
}

#[test]
fn a_restart_of_either_program_keeps_the_data_and_the_accounts() {
    let mut server = started();
    server.apply(OBJECTS);
    let account = server.account("reader", &[rule("", "pods", &["list"])]);
    let before = server.ask(async |client| versions(&client).await);
    assert_eq!(before.len(), 3);
    let check = |server: &ApiServer| {
        assert_eq!(server.ask(async |client| versions(&client).await), before);
        let list = server.ask_as(&account.kubeconfig, async |client| {
            let pods: Api<Pod> = Api::all(client);
            pods.list(&ListParams::default()).await
        });
        assert_eq!(list.unwrap().items.len(), 1);
    };
    for end in [ApiServer::stop, ApiServer::kill] {
        end(&mut server, Program::ApiServer);
        let refused = server.ask(async |client| client.apiserver_version().await);
        assert!(refused.is_err());
        let start = Instant::now();
        server.run(Program::ApiServer);
        println!("ready again after {:?}", start.elapsed());
        check(&server);
        end(&mut server, Program::Etcd);
        server.run(Program::Etcd);
        until("the API server finds etcd again", || {
            server.is_ready(Program::ApiServer)
        });
        check(&server);
    }
    end_both(&mut server);
    server.run(Program::Etcd);
    server.run(Program::ApiServer);
    check(&server);
}

fn end_both(server: &mut ApiServer) {
    server.kill(Program::Etcd);
    server.kill(Program::ApiServer);
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "it does not come to it that {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lives(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

#[test]
fn nothing_is_left_of_it_when_the_test_ends() {
    let server = started();
    let ids = [Program::Etcd, Program::ApiServer].map(|program| server.id(program));
    let folder = server.administrator().parent().unwrap().to_owned();
    assert!(ids.into_iter().all(lives) && folder.exists());
    let panicked = std::thread::spawn(move || {
        let _server = server;
        panic!("as a test that fails does");
    });
    assert!(panicked.join().is_err());
    assert!(!ids.into_iter().any(lives) && !folder.exists());
}

/// Set for the process that the next test starts and kills.
const UNTIL_KILLED: &str = "PICKET_TEST_RUNS_UNTIL_KILLED";

#[test]
fn nothing_runs_on_when_the_tests_are_killed() {
    if std::env::var_os(UNTIL_KILLED).is_some() {
        run_until_killed();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_runs_on_when_the_tests_are_killed"])
        .arg("--nocapture")
        .env(UNTIL_KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines.map_while(Result::ok);
    let lines: Vec<_> = lines.take_while(|line| line != "complete").collect();
    let value = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
    let ids = value("ids ").unwrap_or_else(|| panic!("{lines:?}"));
    let ids: Vec<u32> = ids.split(' ').map(|id| id.parse().unwrap()).collect();
    assert!(ids.iter().copied().all(lives));
    child.kill().unwrap();
    child.wait().unwrap();
    until("both have ended", || !ids.iter().copied().any(lives));
    std::fs::remove_dir_all(value("folder ").unwrap()).unwrap();
}

fn run_until_killed() -> ! {
    let server = started();
    let [etcd, api_server] = [Program::Etcd, Program::ApiServer].map(|program| server.id(program));
    let folder = server.administrator().parent().unwrap().to_owned();
    println!(
        "\nids {etcd} {api_server}\nfolder {}\ncomplete",
        folder.display()
    );
    loop {
        std::thread::park();
    }
}
