//! `obscura generate`, as scripts and people use it: what is refused before work, where images go, what is
//! printed. By the demo model, in this process and on a node.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use program::Program;
use serde_json::Value;

fn obscura(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().unwrap()
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program::path());
    command.current_dir(folder).args(words);
    command
}

const SMALL: [&str; 6] = ["generate", "a red circle", "--size", "64x64", "--steps", "1"];

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], more].concat()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_cannot_work_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("there.png"), "mine").unwrap();
    for (words, code, part) in [
        (&["--output", "there.png"][..], 1, "there.png is there already; --force replaces it"),
        (&["--output", "no/x.png"], 1, "cannot write no/x.png"),
        (&["--output", "x.gif"], 1, "the ending must be png, jpg, jpeg or webp"),
        (&["--output", "x.png", "--format", "webp"], 1, "the ending says png"),
        (&["--output", "-", "--n", "2"], 1, "standard output takes one image"),
        (&["--n", "0"], 1, "--n: must be a whole number from 1 to 10"),
        (&["--n", "-1"], 1, "--n: must be a whole number from 1 to 10"),
        (&["--seed", "-2"], 2, "-1 for any seed"),
        (&["--guidance", "4"], 1, "--guidance: the model takes none"),
        (&["--accept-simulated"], 1, "--accept-simulated is for asking a node: add --node URL"),
        (&["--api-key", "k"], 1, "--api-key is for asking a node"),
        (&["--node", "https://node.example", "--api-key", "k\n"], 1, "1 to 4096 visible ASCII"),
        (&["--node", "https://node.example", "--api-key", ""], 1, "or OBSCURA_API_KEY"),
        (&["--node", "http://127.0.0.1:9/v1"], 1, "leave that out"),
        (&["--model-id", "m"], 1, "--model-id is for asking a node"),
        (&["--insecure-http"], 1, "--insecure-http is for asking a node"),
        (&["--node", "http://127.0.0.1:9", "--model", "demo"], 1, "goes into --model-id"),
        (&["--node", "http://127.0.0.1:9", "--device", "cpu"], 1, "--device is for drawing in"),
        (&["--node", "http://127.0.0.1:9", "--memory-limit", "1GB"], 1, "--memory-limit is for"),
        (&["--node", "http://127.0.0.1:9", "--lora", "x"], 1, "--lora is for drawing in"),
        (&["--lora", "x:much"], 2, "must be FILE:WEIGHT"),
        (&["--lora", "x:nan"], 2, "a weight must be"),
        (&["--size", "100x64"], 2, "96x64 would do"),
        (&["--mask", "there.png"], 2, "--image <FILE>"),
    ] {
        let mut all = vec!["generate", "a red circle"];
        all.extend(words);
        let output = obscura(here, &all);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(part) && output.stdout.is_empty(), "{words:?}: {said}");
    }
    assert_eq!(names(here), ["there.png"]);
    assert_eq!(fs::read(here.join("there.png")).unwrap(), b"mine");
}

#[test]
fn images_go_where_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // Nothing is said: the next free name.
    for _ in 0..2 {
        assert!(obscura(here, &small(&[])).status.success());
    }
    assert_eq!(names(here), ["obscura-2.png", "obscura.png"]);
    // The ending decides.
    let output = obscura(here, &small(&["--output", "x.jpg", "--seed", "-1"]));
    assert!(output.status.success(), "{}", said(&output));
    assert!(fs::read(here.join("x.jpg")).unwrap().starts_with(b"\xff\xd8"));
    // Standard output is the image and nothing else.
    let output = obscura(here, &small(&["--output", "-", "--format", "webp"]));
    assert!(output.stdout.starts_with(b"RIFF") && said(&output).contains("seed "));
    assert_eq!(names(here).len(), 3);
    let demo = ["demo", "--once", "--listen", "127.0.0.1:0", "--output", "demo.jpg"];
    let output = obscura(here, &demo);
    assert!(output.status.success(), "{}", said(&output));
    assert!(fs::read(here.join("demo.jpg")).unwrap().starts_with(b"\xff\xd8"));
    let again = obscura(here, &demo);
    assert!(!again.status.success() && said(&again).contains("--force replaces it"));
}

#[test]
fn a_script_reads_objects_and_prompts_come_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let words = ["generate", "-", "--size=64x64", "--quality=low", "--n=2", "--seed=7", "--json"];
    let mut command = command(here, &words);
    command.args(["--output", "x.png"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a red circle\n\na blue square\r\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let lines: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let (summary, images) = lines.split_last().unwrap();
    let found: Vec<_> = images
        .iter()
        .map(|image| {
            let file = fs::read(here.join(image["path"].as_str().unwrap())).unwrap();
            assert_eq!(
                (image["bytes"].as_u64().unwrap() as usize, &image["kind"]),
                (file.len(), &"image".into())
            );
            assert_eq!((&image["size"], &image["format"]), (&"64x64".into(), &"png".into()));
            (image["prompt"].clone(), image["index"].clone(), image["seed"].clone(), file)
        })
        .collect();
    let places: Vec<_> = found
        .iter()
        .map(|(prompt, index, seed, _)| [prompt, index, seed].map(|n| n.as_u64().unwrap()))
        .collect();
    assert_eq!(places, [[0, 0, 7], [0, 1, 8], [1, 0, 7], [1, 1, 8]]);
    assert_eq!(names(here), ["x-2.png", "x-3.png", "x-4.png", "x.png"]);
    assert!(found[0].3 != found[2].3, "another prompt, another image");
    assert_eq!((&summary["kind"], &summary["images"]), (&"summary".into(), &4.into()));
    assert!(summary["stages"]["denoise"].as_f64().unwrap() > 0.0);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("circle"));
}

/// Each image is in its file, and told, before the next one is drawn: a run that is killed has lost nothing
/// that it said.
#[test]
fn images_are_written_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let words = ["generate", "a red circle", "--n", "10", "--steps", "50", "--output", "x.png"];
    let mut child =
        command(here, &words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("x.png  "), "{line}");
    assert!(here.join("x.png").is_file() && !here.join("x-10.png").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_only_model_is_the_one_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let node = Program::serve(&["--model-id", "mine"], Stdio::null());
    node.ready().await;
    let ask = |more: &[&str]| {
        let words =
            ["--node", &node.url, "--accept-simulated", "--json", "--style", "vivid", "--n=2"];
        // What the environment says of drawing here is no flag that is ignored.
        let mut command = command(folder.path(), &small(&[&words[..], more].concat()));
        command.env("OBSCURA_MODEL", "flux1-schnell").output().unwrap()
    };
    let output = ask(&["--output", "a.webp"]);
    assert!(output.status.success(), "{}", said(&output));
    let lines: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!((&lines[0]["model"], &lines[1]["index"]), (&"mine".into(), &1.into()));
    assert_eq!(
        (&lines[2]["images"], &lines[2]["node"]["url"]),
        (&2.into(), &node.url.as_str().into())
    );
    assert!(fs::read(folder.path().join("a-2.webp")).unwrap().starts_with(b"RIFF"));
    let other = ask(&["--model-id", "theirs", "--output", "b.png"]);
    assert!(!other.status.success());
    assert!(said(&other).contains("mine"), "the node says which there are: {}", said(&other));
    node.stop();
}

#[test]
fn a_variable_that_nothing_reads_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str| {
        command(folder.path(), &["models", "list"])
            .env(name, "tcp://10.0.0.1:8080")
            .output()
            .unwrap()
    };
    let slip = with("OBSCURA_DEVCE");
    assert_eq!(slip.status.code(), Some(1));
    assert!(said(&slip).contains("did you mean OBSCURA_DEVICE?"), "{}", said(&slip));
    for name in ["OBSCURA_PORT", "OBSCURA_NODE_PORT_8080_TCP", "OBSCURA_QUEUE_CAPACITY"] {
        let listed = with(name);
        assert!(listed.status.success(), "{name}: {}", said(&listed));
        assert!(String::from_utf8(listed.stdout).unwrap().starts_with("demo\n"));
    }
}

#[test]
fn a_directory_without_a_manifest_is_told_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = obscura(folder.path(), &["models", "check", "."]);
    assert!(!output.status.success() && said(&output).contains("obscura models pin"));
    let output = obscura(folder.path(), &["models", "check", "nowhere"]);
    assert!(said(&output).contains("nowhere is no directory"));
}
