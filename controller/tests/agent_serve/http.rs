//! Health and metrics over HTTP, asked in good and in bad ways.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use controller::agent::snapshot::Snapshot;
use controller::agent::source::Problem;

use super::world::{Agent, snapshot, until};

/// Sends these bytes, and returns all that comes back.
fn exchange(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // A server that refuses does not read all of it.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut some) {
        answer.extend_from_slice(&some[..count]);
    }
    String::from_utf8(answer).unwrap()
}

/// Status and body of a request.
fn request(to: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer = exchange(
        to,
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
    );
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn get(to: SocketAddr, path: &str) -> (u16, String) {
    request(to, "GET", path)
}

#[test]
fn it_is_ready_once_a_complete_state_was_applied() {
    let problem = Problem {
        message: "line 3: bad".to_owned(),
        blocks: true,
    };
    let agent = Agent::start(Snapshot {
        ready: false,
        problems: [("a.yaml".to_owned(), problem)].into(),
        ..snapshot()
    });
    let at = agent.http();
    let expected = "nothing was applied since the start: a.yaml: line 3: bad\n";
    assert_eq!(get(at, "/readyz"), (503, expected.to_owned()));
    // Alive all the same: a restart would help nobody.
    assert_eq!(get(at, "/healthz"), (200, "ok\n".to_owned()));
    agent.publish(snapshot());
    assert_eq!(get(at, "/readyz"), (200, "ready\n".to_owned()));
    // Later failures do not take it away: what was in force stays so.
    agent.publish(Snapshot {
        failure: Some("the kernel refused".to_owned()),
        ..snapshot()
    });
    assert_eq!(get(at, "/readyz").0, 200);
}

#[test]
fn it_lives_until_its_engine_has_ended() {
    let mut agent = Agent::start(snapshot());
    let at = agent.http();
    assert_eq!(get(at, "/healthz").0, 200);
    agent.end_engine();
    assert_eq!(
        get(at, "/healthz"),
        (503, "the engine has ended\n".to_owned())
    );
    // What it knew last can be asked for.
    assert_eq!(get(at, "/metrics").0, 200);
}

#[test]
fn metrics_are_those_of_the_latest_snapshot() {
    let agent = Agent::start(snapshot());
    let at = agent.http();
    let answer = exchange(at, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    assert!(answer.contains("\npicket_drift_alarm 0\n"), "{answer}");
    agent.publish(Snapshot {
        drift_alarm: true,
        ..snapshot()
    });
    assert!(get(at, "/metrics").1.contains("\npicket_drift_alarm 1\n"));
}

#[test]
fn only_get_and_head_of_what_there_is_are_answered() {
    let agent = Agent::start(snapshot());
    let at = agent.http();
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT",
    ] {
        let path = if method == "CONNECT" {
            "x:1"
        } else {
            "/healthz"
        };
        assert_eq!(request(at, method, path).0, 405, "{method}");
    }
    assert_eq!(request(at, "HEAD", "/healthz"), (200, String::new()));
    for path in ["/", "/metrics/", "/healthz/../etc/passwd", "//metrics"] {
        assert_eq!(get(at, path).0, 404, "{path}");
    }
    assert_eq!(get(at, "/metrics?name=x").0, 200);
}

#[test]
fn what_is_no_request_is_refused_and_stops_nobody() {
    let agent = Agent::start(snapshot());
    let at = agent.http();
    let long = "a".repeat(1 << 20);
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    for bad in [
        "nonsense\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\nx: {long}\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{many}\r\n"),
        "GET /healthz HTTP/9.9\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(at, bad.as_bytes());
        let begin = &bad[..bad.len().min(40)];
        let refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 4")
            || answer.starts_with("HTTP/1.0 4");
        assert!(refused, "{begin:?}: {answer}");
        assert_eq!(get(at, "/healthz").0, 200, "{begin:?}");
    }
}

#[test]
fn many_connections_that_ask_nothing_keep_nobody_out() {
    let agent = Agent::start(snapshot());
    let at = agent.http();
    let mut idle = Vec::new();
    for round in 0..300 {
        let mut stream = TcpStream::connect(at).unwrap();
        // Some have begun to ask, and never end.
        if round % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").unwrap();
        }
        idle.push(stream);
        if round % 30 == 0 {
            assert_eq!(get(at, "/healthz").0, 200, "{round}");
        }
    }
    assert_eq!(get(at, "/metrics").0, 200);
    // The first were let go of, so that the process has not all of them.
    let first = &mut idle[0];
    first
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let ended = match first.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(ended);
}

#[test]
fn a_client_that_never_ends_its_request_is_let_go_of() {
    let agent = Agent::start(snapshot());
    let mut stream = TcpStream::connect(agent.http()).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut rest = String::new();
    // Without a limit of time, this would be an error of our own time-out.
    stream.read_to_string(&mut rest).unwrap();
    assert!(
        rest.is_empty() || rest.starts_with("HTTP/1.1 408"),
        "{rest}"
    );
}

#[test]
fn a_port_of_another_program_delays_health_and_nothing_else() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = other.local_addr().unwrap();
    let agent = Agent::start_at(at, snapshot());
    // The socket answers, and the agent goes on.
    let mut client = until("the socket", || agent.client().ok());
    assert!(agent.status(&mut client).well);
    assert_eq!(agent.running().http(), None);
    drop(other);
    until("the port", || agent.running().http());
    assert_eq!(get(at, "/healthz").0, 200);
}

#[test]
fn a_stop_is_not_delayed_by_clients() {
    let agent = Agent::start(snapshot());
    let at = agent.http();
    let open: Vec<_> = (0..10).map(|_| TcpStream::connect(at).unwrap()).collect();
    let published = Arc::downgrade(&agent.latest());
    drop(agent);
    // Nothing of it is left: nobody answers, nobody holds the state.
    assert!(TcpStream::connect(at).is_err());
    assert!(published.upgrade().is_none());
    drop(open);
}
