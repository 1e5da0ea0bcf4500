//! Settings that would have others speak are refused before anything is loaded.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use crate::program::Program;

#[test]
fn a_log_that_would_let_others_speak_is_refused() {
    for (directive, told) in [
        ("tokenizers=trace", "or one of others"),
        ("info,tokenizers=info", "or one of others"),
        ("tokenizers::models::unigram=error", "or one of others"),
        ("hyper=off", "or one of others"),
        ("nodes=info", "or one of others"),
        ("[request]=trace", "neither"),
        ("node[request{id}]=info", "neither"),
        ("[{prompt}]=info", "neither"),
        ("=trace", "neither"),
        ("everything", "neither"),
        ("", "neither"),
    ] {
        let setting = format!("log={directive}");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "log = {directive:?}").unwrap();
        let by_environment = Program::command(&[]).env("OBSCURA_LOG", directive).output();
        let by_flag = Program::command(&["--set", &setting]).output();
        let path = file.path().to_str().unwrap();
        let by_file = Program::command(&["--config", path]).output();
        for output in [by_environment, by_flag, by_file] {
            let Output { status, stdout, stderr } = output.unwrap();
            let stderr = String::from_utf8(stderr).unwrap();
            assert!(!status.success() && stdout.is_empty(), "{directive}: {stderr}");
            let directive = directive.rsplit(',').next().unwrap();
            assert!(stderr.contains(&format!("`{directive}`")), "{directive}: {stderr}");
            assert!(stderr.contains(told) && stderr.contains("`log`"), "{directive}: {stderr}");
        }
    }
}

/// What makes other programs talk has no meaning here.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_of_other_programs_changes_nothing() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Program::command(&[]);
    command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").env_remove("OBSCURA_LOG");
    let node = Program::start(command.stderr(Stdio::from(log.reopen().unwrap())));
    node.ready().await;
    node.stop();
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("ready"), "{log}");
    for line in log.lines() {
        assert!(!line.contains("DEBUG") && !line.contains("TRACE"), "{line}");
    }
}
