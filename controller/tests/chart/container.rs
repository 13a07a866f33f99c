//! A container of the chart as a process: with its arguments and its capabilities.

use std::process::Command;

use serde_json::Value;

use crate::manifests::NODE;
use crate::meaning::arguments;

/// The container of this name, in a pod's specification.
pub(crate) fn named<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let of = |kind: &str| pod[kind].as_array().into_iter().flatten();
    let mut all = of("initContainers").chain(of("containers"));
    all.find(|container| container["name"] == name).unwrap()
}

/// What a runtime would start, but for the image.
pub(crate) fn command(container: &Value) -> Command {
    let security = &container["securityContext"];
    assert_eq!(security["runAsUser"], 0);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    let capabilities = &security["capabilities"];
    assert_eq!(capabilities["drop"], serde_json::json!(["ALL"]));
    let added = capabilities["add"].as_array().into_iter().flatten();
    let added = added.map(|name| format!(",+{}", name.as_str().unwrap().to_lowercase()));
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all"]);
    command.arg(format!("--bounding-set=-all{}", added.collect::<String>()));
    command.arg("--").arg(env!("CARGO_BIN_EXE_picket"));
    let arguments = arguments(container).into_iter();
    command.args(arguments.map(|text| text.replace("$(NODE_NAME)", NODE)));
    command
}
