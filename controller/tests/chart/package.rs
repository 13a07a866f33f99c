//! The chart as it is published.

use std::fs;
use std::process::Command;

use crate::helm::{CHART, helm, run};
use crate::support::Folder;

/// What is in the package of a copy of the chart whose files were written at this time.
fn package(of: &str, touched: &str) -> Vec<u8> {
    let folder = Folder::new(of);
    let copied = Command::new("cp")
        .args(["-r", CHART, "chart"])
        .current_dir(folder.path())
        .status();
    assert!(copied.unwrap().success());
    let mut find = Command::new("find");
    find.args(["chart", "-exec", "touch", "-d", touched, "{}", "+"]);
    run(find.current_dir(folder.path())).unwrap();
    let mut package = helm(&folder);
    package.args(["package", "chart"]);
    package.env("SOURCE_DATE_EPOCH", "1700000000");
    run(package.current_dir(folder.path())).unwrap();
    fs::read(folder.path().join("picket-0.1.0.tgz")).unwrap()
}

#[test]
fn the_same_chart_is_the_same_package() {
    let first = package("package-1", "2001-01-01");
    let second = package("package-2", "2020-02-02");
    assert!(first == second);
}

#[test]
fn the_version_of_the_program_is_that_of_the_workspace() {
    let chart = fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap();
    let chart: serde_json::Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}
