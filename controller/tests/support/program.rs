//! The program as a person or a CI job calls it.

#![allow(dead_code, reason = "each test program uses a part")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

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
