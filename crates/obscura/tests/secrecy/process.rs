//! What a serving process has given up, as the kernel sees it.

use std::{fs, process::Stdio};

use crate::program::Program;

#[tokio::test(flavor = "multi_thread")]
async fn a_serving_node_has_given_up_what_it_needs_no_more() {
    let node = Program::serve(&["--set", "sandbox=on"], Stdio::null());
    node.ready().await;
    let process = format!("/proc/{}", node.id());
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    assert!(field(&process, "VmLck").trim_end_matches(" kB").parse::<u64>().unwrap() >= 8);
    // Every thread, those included that were there before.
    let threads: Vec<_> = fs::read_dir(format!("{process}/task")).unwrap().collect();
    assert!(threads.len() > 3, "{}", threads.len());
    for thread in threads {
        let thread = thread.unwrap().path().display().to_string();
        assert_eq!(field(&thread, "NoNewPrivs"), "1");
        assert_eq!(field(&thread, "Seccomp"), "2", "{}", field(&thread, "Name"));
    }
    // And it still serves, and stops in order.
    let answer = crate::client::Exchange::of(
        &node,
        serde_json::json!({"prompt": "a red star", "size": "64x64"}),
    );
    assert_eq!(answer.await.send(&node).await.0, 200);
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_can_be_left_out_and_only_by_its_name() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let node = Program::serve(&["--set", "sandbox=off"], log.reopen().unwrap());
    node.ready().await;
    let process = format!("/proc/{}", node.id());
    assert_eq!(field(&process, "NoNewPrivs"), "1", "that needs nobody's leave");
    assert_eq!(field(&process, "Seccomp"), field("/proc/self", "Seccomp"));
    node.stop();
    let log = fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("sandbox: off"), "{log}");

    let refused = Program::command(&["--set", "sandbox=some"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("`sandbox`"));
}

fn field(directory: &str, name: &str) -> String {
    let status = fs::read_to_string(format!("{directory}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().trim().to_owned()
}
