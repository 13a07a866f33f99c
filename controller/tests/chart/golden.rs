//! What the chart makes of values, as files that a person reads.

use std::fs;

use crate::helm::{CHART, HELMS, MATRIX, helm, matrix, run, template, template_by, values};
use crate::support::Folder;

/// The oldest Kubernetes that the chart is for, and the newest that was tried.
pub(crate) const VERSIONS: [&str; 2] = ["1.27", "1.37"];

#[test]
fn the_objects_are_those_that_were_reviewed_on_every_version() {
    for name in matrix() {
        let path = format!("{MATRIX}/{name}.yaml");
        for version in VERSIONS {
            let version = format!("{version}.0");
            let arguments = ["--values", &values(&name), "--kube-version", &version];
            let rendered = template(&arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::write(&path, &rendered).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                rendered == expected,
                "{path} is not what comes of {name}.values.yaml for {version}: UPDATE_GOLDEN=1 writes it anew"
            );
        }
    }
}

/// The same lines: helm 4 puts an empty one before each document, 3 does not.
#[test]
fn every_helm_makes_the_same_objects() {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    for name in matrix() {
        let expected = lines(&fs::read_to_string(format!("{MATRIX}/{name}.yaml")).unwrap());
        for helm in HELMS {
            let rendered = template_by(helm, CHART, &["--values", &values(&name)])
                .unwrap_or_else(|error| panic!("{helm}, {name}: {error}"));
            assert_eq!(lines(&rendered), expected, "{helm}, {name}");
        }
    }
}

#[test]
fn a_kubernetes_that_is_too_old_is_refused() {
    for helm in HELMS {
        let with = |version| template_by(helm, CHART, &["--kube-version", version]);
        let error = with("1.26.9").unwrap_err();
        assert!(
            error.contains("chart requires kubeVersion: >=1.27.0-0"),
            "{helm}: {error}"
        );
        // Versions of vendors have a suffix.
        for version in ["v1.27.0-gke.100", "v1.31.2+k3s1"] {
            with(version).unwrap_or_else(|error| panic!("{helm}, {version}: {error}"));
        }
    }
}

#[test]
fn helm_finds_nothing_wrong_with_any_values() {
    for (helm_of, name) in HELMS
        .iter()
        .flat_map(|helm| matrix().into_iter().map(move |name| (helm, name)))
    {
        let home = Folder::new("helm-lint");
        let mut lint = helm(helm_of, &home);
        lint.args(["lint", "--strict", CHART, "--values"]);
        let said = run(lint.arg(values(&name)))
            .unwrap_or_else(|error| panic!("{helm_of}, {name}: {error}"));
        assert!(said.contains("0 chart(s) failed"), "{helm_of}: {said}");
    }
}
