//! The program as a person or a CI job calls it.

#![allow(dead_code, reason = "each test program uses a part")]

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shop");

pub(crate) fn picket(arguments: &[&str], stdin: &str) -> Output {
    with_input(
        Command::new(env!("CARGO_BIN_EXE_picket")).args(arguments),
        stdin,
    )
}

pub(crate) fn with_input(command: &mut Command, stdin: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // A program that refuses its arguments does not read.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    child.wait_with_output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
pub(crate) fn exits(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// The program as the first process of a container, to which signals that it does not handle do nothing. It ends with
/// what holds it, `timeout` and `unshare`, which end as it has ended, and is killed after a minute.
pub(crate) fn first_process() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60", "unshare"]);
    command.args(["--pid", "--fork", "--kill-child", "--"]);
    command.arg(env!("CARGO_BIN_EXE_picket"));
    command
}

/// Sends a signal to it; its exit code. There is none if it does not hear of the signal, and is killed.
pub(crate) fn end_first_process(timeout: &mut Child, signal: Signal) -> Option<i32> {
    let child = |id: i32| -> i32 {
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        children.unwrap().trim().parse().unwrap()
    };
    let unshare = child(timeout.id().cast_signed());
    kill(Pid::from_raw(child(unshare)), signal).unwrap();
    timeout.wait().unwrap().code()
}
