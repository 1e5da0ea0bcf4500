//! What is printed may be read in part: `obscura … | head`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Stdio};

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_obscura"))
        .args(["models", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
