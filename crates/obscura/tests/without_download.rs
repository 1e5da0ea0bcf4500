//! A build without `download` has the command, and says how to get one that can.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![cfg(not(feature = "download"))]

use std::process::Command;

#[test]
fn the_command_names_the_feature_that_it_needs() {
    let program = env!("CARGO_BIN_EXE_obscura");
    let output =
        Command::new(program).args(["models", "download", "flux1-schnell"]).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("--features download"), "{error}");
}
