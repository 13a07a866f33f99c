//! Events as they travel: events.k8s.io/v1.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Subject;
use crate::kubernetes::escape;

/// The most bytes of a note, and of who reports, that the API server takes.
const NOTE: usize = 1024;
const INSTANCE: usize = 128;

/// Where the Events of a namespace are, or one of them.
pub fn path(namespace: &str, event: Option<&str>) -> String {
    let mut path = "/apis/events.k8s.io/v1/namespaces/".to_owned();
    escape(&mut path, namespace);
    path.push_str("/events");
    if let Some(event) = event {
        path.push('/');
        escape(&mut path, event);
    }
    path
}

/// An Event that is new.
pub(super) fn event(subject: &Subject, note: &str, uid: &str, node: &str, at: Timestamp) -> Value {
    let policy = &subject.policy;
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "picket-", "namespace": policy.namespace},
        "eventTime": micro_time(at),
        "reportingController": "picket",
        "reportingInstance": cut(&format!("picket-{node}"), INSTANCE),
        "action": "Program",
        "reason": subject.reason.name(),
        "type": "Warning",
        "note": cut(note, NOTE),
        "regarding": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "namespace": policy.namespace,
            "name": policy.name,
            "uid": uid,
        },
    })
}

/// A merge patch of an Event that was said so often and still holds.
pub fn series(count: u32, at: Timestamp) -> Value {
    json!({"series": {"count": count, "lastObservedTime": micro_time(at)}})
}

/// meta/v1 MicroTime: the API server takes no more and no fewer digits.
fn micro_time(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// The first bytes of a text, as far as its characters are whole.
fn cut(text: &str, most: usize) -> &str {
    let mut ends = (0..=most.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use policy_compiler::model::NamespacedName;

    use super::*;
    use crate::agent::events::notes::Reason;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(cut("aé", 1), "a");
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 9), "aé");
        let subject = Subject {
            policy: NamespacedName::new("shop", "db"),
            reason: Reason::Refused,
        };
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let event = event(&subject, &"é".repeat(2000), "u", &"n".repeat(253), at);
        assert_eq!(event["note"].as_str().unwrap().len(), NOTE);
        let instance = event["reportingInstance"].as_str().unwrap();
        assert_eq!(instance.len(), INSTANCE);
        assert_eq!(event["eventTime"], "2023-11-14T22:13:20.000000Z");
    }

    #[test]
    fn nothing_of_a_name_reaches_the_syntax_of_a_path() {
        assert_eq!(
            path("a/b", Some("c?d")),
            "/apis/events.k8s.io/v1/namespaces/a%2Fb/events/c%3Fd"
        );
    }
}
