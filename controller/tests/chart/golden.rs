//! What the chart makes of values, as files that a person reads.

use std::fs;

use crate::helm::{MATRIX, helm, matrix, run, template, values};
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

#[test]
fn a_kubernetes_that_is_too_old_is_refused() {
    let error = template(&["--kube-version", "1.26.9"]).unwrap_err();
    assert!(
        error.contains("chart requires kubeVersion: >=1.27.0-0"),
        "{error}"
    );
    // Versions of vendors have a suffix.
    template(&["--kube-version", "v1.27.0-gke.100"]).unwrap();
    template(&["--kube-version", "v1.31.2+k3s1"]).unwrap();
}

#[test]
fn helm_finds_nothing_wrong_with_any_values() {
    for name in matrix() {
        let home = Folder::new("helm-lint");
        let mut lint = helm(&home);
        lint.args(["lint", "--strict", crate::helm::CHART, "--values"]);
        let said = run(lint.arg(values(&name))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}
