//! The chart as it is published.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::helm::{CHART, HELMS, helm, run, template_by};
use crate::support::Folder;

/// A folder with the package of a copy of the chart whose files were written at this time.
fn package(by: &str, touched: &str) -> (Folder, PathBuf) {
    let folder = Folder::new("package");
    let copied = Command::new("cp")
        .args(["-r", CHART, "chart"])
        .current_dir(folder.path())
        .status();
    assert!(copied.unwrap().success());
    let mut find = Command::new("find");
    find.args(["chart", "-exec", "touch", "-d", touched, "{}", "+"]);
    run(find.current_dir(folder.path())).unwrap();
    let mut package = helm(by, &folder);
    package.args(["package", "chart"]);
    package.env("SOURCE_DATE_EPOCH", "1700000000");
    run(package.current_dir(folder.path())).unwrap();
    let path = folder.path().join("picket-0.1.0.tgz");
    (folder, path)
}

/// Its files, and what is in them.
fn content(package: &Path) -> BTreeMap<String, String> {
    let tar = |arguments: &[&str]| {
        let mut tar = Command::new("tar");
        run(tar.arg("--file").arg(package).args(arguments)).unwrap()
    };
    let names = tar(&["--list"]);
    let read = |name: &str| (name.to_owned(), tar(&["--extract", "--to-stdout", name]));
    names.lines().map(read).collect()
}

#[test]
fn the_same_chart_is_the_same_package() {
    let read = |(_folder, path)| fs::read::<PathBuf>(path).unwrap();
    let first = read(package(HELMS[0], "2001-01-01"));
    let second = read(package(HELMS[0], "2020-02-02"));
    assert!(first == second);
}

/// Helm 3 writes the time into it at which it did so.
#[test]
fn every_helm_packs_the_same_files_and_takes_what_another_packed() {
    let (_folder, newest) = package(HELMS[0], "2001-01-01");
    let expected = content(&newest);
    assert!(expected.len() > 10, "{:?}", expected.keys());
    let template = |by, chart: &Path| template_by(by, chart.to_str().unwrap(), &[]).unwrap();
    for by in HELMS {
        let (_folder, package) = package(by, "2001-01-01");
        assert_eq!(content(&package), expected, "{by}");
        let from_folder = template(by, Path::new(CHART));
        assert_eq!(template(by, &newest), from_folder, "{by}");
        assert_eq!(
            template(HELMS[0], &package),
            template(HELMS[0], Path::new(CHART)),
            "{by}"
        );
    }
}

#[test]
fn the_version_of_the_program_is_that_of_the_workspace() {
    let chart = fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap();
    let chart: serde_json::Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}
