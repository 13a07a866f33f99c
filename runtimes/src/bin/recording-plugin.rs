//! A CNI plugin that records how it was called and changes nothing: for tests of how runtimes call plugins.
//!
//! Keys of its configuration: `folder`, in which it appends a line of JSON for each call to `calls.jsonl`. Where the
//! folder has a file `fail-VERB`, its content is what that verb answers as an error.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

fn main() -> ExitCode {
    match answer() {
        Ok(code) => code,
        Err(error) => {
            println!(
                "{}",
                json!({"cniVersion": "1.0.0", "code": 100, "msg": error.to_string()})
            );
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<ExitCode, Box<dyn Error>> {
    let verb = std::env::var("CNI_COMMAND")?;
    let input: Value = serde_json::from_reader(std::io::stdin())?;
    // Asked before there is a configuration.
    if verb == "VERSION" {
        let versions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];
        println!(
            "{}",
            json!({"cniVersion": "1.0.0", "supportedVersions": versions})
        );
        return Ok(ExitCode::SUCCESS);
    }
    let folder = Path::new(input["folder"].as_str().ok_or("no `folder`")?);
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let line = format!("{}\n", json!({"environment": environment, "input": input}));
    let mut options = File::options();
    let mut file = options
        .create(true)
        .append(true)
        .open(folder.join("calls.jsonl"))?;
    file.write_all(line.as_bytes())?;
    if let Ok(error) = fs::read_to_string(folder.join(format!("fail-{verb}"))) {
        println!("{error}");
        return Ok(ExitCode::FAILURE);
    }
    if verb == "ADD" {
        println!("{}", input["prevResult"]);
    }
    Ok(ExitCode::SUCCESS)
}
