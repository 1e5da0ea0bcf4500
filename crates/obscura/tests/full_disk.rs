//! A disk that takes no more: nothing that was there is lost, and a node goes on.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fs::{self, File},
    process::Command,
};

use program::Program;

const OBSCURA: &str = env!("CARGO_BIN_EXE_obscura");

/// The shell's limit on the length of files stands in for the disk: writing fails half way.
#[test]
fn an_image_that_has_no_room_leaves_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fox.png");
    fs::write(&path, "the older image").unwrap();
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" generate 'a red circle' \
                  --steps 1 --device cpu --force --output \"$1\"";
    let output = Command::new("sh").arg("-c").arg(script).arg(OBSCURA).arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("cannot write"), "{said}");
    assert!(said.contains("fox.png") && !said.contains("a red circle"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "the older image");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let node = Program::serve(&[], full);
    for _ in 0..3 {
        let answer = tests::http().get(format!("{}/healthz", node.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    node.stop();
}
