//! The exposition is what promtool asks for, and `docs/metrics.md` has all of it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p controller --test agent_serve` writes the table of `docs/metrics.md` anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs};

use controller::agent::metrics::{
    CniCommand, CniResult, EventResult, FailureReason, Metrics, SyncType,
};
use controller::agent::snapshot::Snapshot;
use controller::agent::source::Problem;
use controller::kubernetes::Resource;

use super::world::snapshot;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

/// One family of the text format.
#[derive(Debug, Default)]
struct Family {
    help: String,
    kind: String,
    /// Name with labels, and value, in order.
    samples: Vec<(String, f64)>,
}

impl Family {
    /// The names of its labels, without the bounds of buckets.
    fn labels(&self) -> BTreeSet<&str> {
        let of = self.samples.iter().filter_map(|(name, _)| {
            let (_, labels) = name.trim_end_matches('}').split_once('{')?;
            Some(labels)
        });
        let labels = of.flat_map(|labels| labels.split(','));
        let names = labels.filter_map(|label| label.split('=').next());
        names.filter(|name| *name != "le").collect()
    }
}

/// Parses version 0.0.4 of the text format, strictly: HELP, TYPE, then samples of this family only, and all at once.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let family = families.entry(name.to_owned()).or_default();
            assert_eq!(family.help, "", "{name} is there twice");
            family.help = help.to_owned();
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current);
            families.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let plain = name.split('{').next().unwrap();
            let family = families.get_mut(&current).unwrap();
            let suffixes: &[&str] = match family.kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let of_family = suffixes
                .iter()
                .any(|suffix| plain == format!("{current}{suffix}"));
            assert!(of_family, "{line} below {current}");
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            family.samples.push((name.to_owned(), value));
        }
    }
    families
}

fn value(families: &BTreeMap<String, Family>, sample: &str) -> f64 {
    let samples = families.values().flat_map(|family| &family.samples);
    let mut found = samples.filter(|(name, _)| name == sample);
    found.next().unwrap_or_else(|| panic!("no {sample}")).1
}

/// An agent that has done one of everything.
fn busy() -> (Metrics, Snapshot) {
    let metrics = Metrics::new();
    metrics.policy_programmed(Duration::from_micros(700));
    metrics.pod_programmed(Duration::from_millis(3));
    metrics.synced(SyncType::Partial, Duration::from_millis(2));
    metrics.sync_failed(FailureReason::Refused);
    metrics.queued(UNIX_EPOCH + Duration::from_millis(1_700_000_000_500));
    metrics.compiled(Duration::from_secs(61));
    metrics.drift_repaired();
    metrics.revoked(12);
    metrics.event(EventResult::Sent);
    let waited = Duration::from_secs(30);
    metrics.cni_answered(CniCommand::Add, CniResult::NotYet, waited);
    for resource in Resource::ALL {
        metrics.watch_restarted(resource);
        metrics.watch_heard(resource, UNIX_EPOCH + Duration::from_secs(1_700_000_001));
    }
    let problem = Problem {
        message: "broken".to_owned(),
        blocks: false,
    };
    let snapshot = Snapshot {
        problems: [("a.yaml".to_owned(), problem)].into(),
        drift_alarm: true,
        ..snapshot()
    };
    (metrics, snapshot)
}

fn families() -> BTreeMap<String, Family> {
    let (metrics, snapshot) = busy();
    // A clone counts for the same agent.
    parse(&metrics.clone().text(&snapshot).unwrap())
}

#[test]
fn every_metric_has_help_a_type_a_base_unit_and_a_value() {
    for (name, family) in families() {
        assert!(
            name.starts_with("picket_") || name.starts_with("process_"),
            "{name}"
        );
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(valid), "{name}");
        assert!(family.help.len() > 5, "{name}");
        assert!(!family.samples.is_empty(), "{name} has no value");
        assert!(
            ["counter", "gauge", "histogram"].contains(&family.kind.as_str()),
            "{name}"
        );
        assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
        // promtool: units are base units and come last, a name does not say its type, and is no histogram's part.
        for part in name.split('_') {
            let other = [
                "milliseconds",
                "ms",
                "minutes",
                "hours",
                "kb",
                "mb",
                "percent",
                "gauge",
                "counter",
                "histogram",
            ];
            assert!(!other.contains(&part), "{name}");
        }
        let part = ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| name.ends_with(end));
        assert!(!part, "{name}");
        for timed in ["duration", "timestamp", "start_time", "cpu"] {
            let bare = name.trim_end_matches("_total");
            assert!(
                !name.contains(timed) || bare.ends_with("_seconds"),
                "{name}"
            );
        }
        if name.contains("memory") {
            assert!(name.ends_with("_bytes"), "{name}");
        }
        // Objects of tenants would be series without limit.
        let closed = [
            "type",
            "command",
            "reason",
            "direction",
            "resource",
            "result",
            "version",
        ];
        assert!(
            family.labels().iter().all(|label| closed.contains(label)),
            "{name}"
        );
        let series: BTreeSet<_> = family.samples.iter().map(|(name, _)| name).collect();
        assert_eq!(
            series.len(),
            family.samples.len(),
            "{name} has a series twice"
        );
    }
}

#[test]
fn buckets_go_from_half_a_millisecond_to_a_minute_and_only_grow() {
    let families = families();
    for (name, family) in families
        .iter()
        .filter(|(_, family)| family.kind == "histogram")
    {
        let bucket = format!("{name}_bucket");
        let buckets = family
            .samples
            .iter()
            .filter(|(name, _)| name.starts_with(&bucket));
        let bound = |name: &str| {
            let (_, after) = name.split_once("le=\"").unwrap();
            after
                .split('"')
                .next()
                .unwrap()
                .replace("+Inf", "inf")
                .parse::<f64>()
                .unwrap()
        };
        let buckets: Vec<_> = buckets.map(|(name, count)| (bound(name), *count)).collect();
        assert_eq!(buckets[0].0, 0.0005, "{name}");
        for pair in buckets.windows(2).filter(|pair| pair[0].0 < f64::INFINITY) {
            assert!(
                pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1,
                "{name} {pair:?}"
            );
        }
        let finite = buckets.iter().filter(|(bound, _)| bound.is_finite());
        assert_eq!(
            finite.map(|(bound, _)| *bound).fold(0.0, f64::max),
            60.0,
            "{name}"
        );
    }
    let slow = |bound: &str| {
        value(
            &families,
            &format!("picket_compile_duration_seconds_bucket{{le=\"{bound}\"}}"),
        )
    };
    assert_eq!((slow("60"), slow("+Inf")), (0.0, 1.0));
}

#[test]
fn what_the_engine_counts_and_what_the_snapshot_says_is_told() {
    let families = families();
    let value = |sample: &str| value(&families, sample);
    assert_eq!(
        value("picket_policy_programming_duration_seconds_sum"),
        0.0007
    );
    assert_eq!(value("picket_pod_programming_duration_seconds_count"), 1.0);
    assert_eq!(
        value("picket_sync_duration_seconds_count{type=\"partial\"}"),
        1.0
    );
    assert_eq!(
        value("picket_sync_duration_seconds_count{type=\"full\"}"),
        0.0
    );
    assert_eq!(value("picket_sync_failures_total{reason=\"refused\"}"), 1.0);
    // There before the first, so that it is seen to grow.
    assert_eq!(value("picket_sync_failures_total{reason=\"netlink\"}"), 0.0);
    assert_eq!(
        value("picket_last_queued_timestamp_seconds"),
        1_700_000_000.5
    );
    assert_eq!(
        value("picket_sync_last_success_timestamp_seconds"),
        1_700_000_000.0
    );
    assert_eq!(value("picket_revoked_connections_total"), 12.0);
    let cni = |part: &str, result: &str| {
        let labels = format!("{{command=\"add\",result=\"{result}\"}}");
        value(&format!(
            "picket_cni_request_duration_seconds_{part}{labels}"
        ))
    };
    assert_eq!(
        (cni("count", "not-yet"), cni("sum", "not-yet")),
        (1.0, 30.0)
    );
    assert_eq!((cni("count", "ready"), cni("count", "refused")), (0.0, 0.0));
    assert_eq!(value("picket_drift_repairs_total"), 1.0);
    assert_eq!(value("picket_watch_restarts_total{resource=\"pods\"}"), 1.0);
    assert_eq!(
        value("picket_watch_last_contact_timestamp_seconds{resource=\"networkpolicies\"}"),
        1_700_000_001.0
    );
    assert_eq!(value("picket_events_total{result=\"sent\"}"), 1.0);
    assert_eq!(value("picket_events_total{result=\"failed\"}"), 0.0);
    assert_eq!(value("picket_unattached_endpoints"), 2.0);
    assert_eq!(value("picket_ready"), 1.0);
    assert_eq!(value("picket_policies"), 1.0);
    // web and db; far is on another node.
    assert_eq!(value("picket_local_endpoints"), 2.0);
    assert_eq!(value("picket_source_problems"), 1.0);
    assert_eq!(value("picket_drift_alarm"), 1.0);
    let (_, snapshot) = busy();
    let tables = || snapshot.ruleset.tables.iter();
    let count = |kind: &str| value(&format!("picket_nft_objects{{type=\"{kind}\"}}"));
    assert_eq!(
        count("chain"),
        tables().map(|table| table.chains.len()).sum::<usize>() as f64
    );
    assert_eq!(
        count("set"),
        tables().map(|table| table.sets.len()).sum::<usize>() as f64
    );
    assert_eq!(count("map"), 4.0);
    assert!(count("rule") > count("chain"));
    assert!(count("element") > 4.0);
    assert!(value("process_start_time_seconds") > 1_700_000_000.0);
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("process_open_fds") < value("process_max_fds"));
}

#[test]
fn docs_metrics_has_a_line_for_each_metric() {
    let mut table = String::from("| metric | type | labels | is |\n|---|---|---|---|\n");
    for (name, family) in families() {
        let labels: Vec<_> = family
            .labels()
            .into_iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let help = family.help.trim_end_matches('.');
        let line = format!(
            "| `{name}` | {} | {} | {help} |\n",
            family.kind,
            labels.join(", ")
        );
        table.push_str(&line);
    }
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once("| metric |").unwrap();
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let expected = format!("{before}{table}\n{after}");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(PAGE, &expected).unwrap();
    }
    assert!(
        page == expected || env::var_os("UPDATE_GOLDEN").is_some(),
        "UPDATE_GOLDEN=1 writes it anew"
    );
}
