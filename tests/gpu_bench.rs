//! `bench/gpu` with a card and a program that are made up: what it writes, and how it goes on.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

const CARD: &str = "#!/bin/sh
echo 'NVIDIA H100 80GB HBM3, 580.00, 81559 MiB, 700.00 W, 1980 MHz, 2619 MHz'
";

/// Answers as `obscura` does on a card where attention takes the device down, a library has no convolution and fp8
/// fails.
const PROGRAM: &str = r#"#!/bin/sh
finding() {
  printf '{"kind":"finding","groups":["%s"],"kernel":"%s","case":"bf16","result":"%s","error":null,' "$1" "$1" "$2"
  echo '"tolerance":null,"reason":'${3:-null}',"seconds":0.1}'
}
case "$*:$OBSCURA_REFERENCE" in
doctor*:*attention*) finding linear agrees; finding conv agrees '"the_library_offers_nothing"'
  echo '{"kind":"summary","card":"NVIDIA H100","result":"pass","comparisons":2,"bad_groups":[],"lost":null}' ;;
doctor*) finding linear agrees; finding attention failed '"lost"'
  echo '{"kind":"summary","card":"NVIDIA H100","result":"fail","comparisons":2,"bad_groups":["attention"],"lost":"attention"}'
  exit 1 ;;
*fp8*) echo 'no such tier' >&2; exit 1 ;;
*) echo '{"reference":["'$OBSCURA_REFERENCE'"],"seconds_per_image":0.5,"spread":[0.4,0.6],"stages":{}}' ;;
esac
"#;

struct Bench {
    here: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { here: tempfile::tempdir().unwrap() };
        bench.script("nvidia-smi", CARD);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.here.path().join(name)
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.path(name)
    }

    /// A call of these parts: how it ended, and the lines of its results.
    fn call(&self, program: &str, results: &str, parts: &[&str]) -> (Output, Vec<Value>) {
        let done = Command::new("python3")
            .arg(entry())
            .arg(self.script("obscura", program))
            .args(["--commit=0123", "--seconds=60", "--results"])
            .arg(self.path(results))
            .arg("--state")
            .arg(self.path("state"))
            .arg("--parts")
            .args(parts)
            .env(
                "PATH",
                format!("{}:{}", self.here.path().display(), std::env::var("PATH").unwrap()),
            )
            .output()
            .unwrap();
        let file = fs::read_dir(self.path(results)).unwrap().next().unwrap().unwrap().path();
        assert!(file.to_string_lossy().ends_with("Z-H100-80GB-HBM3.jsonl"), "{}", file.display());
        let lines = fs::read_to_string(file).unwrap();
        (done, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }
}

fn entry() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/gpu")
}

/// How a part ended, last.
fn outcome<'a>(lines: &'a [Value], part: &str) -> Option<&'a Value> {
    let ended = |line: &&Value| {
        line["part"] == part && line["outcome"].is_string() && line["outcome"] != "started"
    };
    lines.iter().rfind(ended)
}

#[test]
fn a_kernel_that_takes_the_device_down_costs_its_own_time_and_no_more() {
    let bench = Bench::new();
    let (done, lines) = bench.call(PROGRAM, "first", &["doctor", "bf16", "fp8"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    assert_eq!(lines[0]["part"], "flight");
    assert_eq!(lines[0]["card"], "NVIDIA H100 80GB HBM3");
    assert_eq!(lines[0]["driver"], "580.00");
    assert_eq!(lines[0]["commit"], "0123");
    // Doctor went on without attention, and found what lay behind it.
    let kernels: Vec<&str> = lines.iter().filter_map(|line| line["kernel"].as_str()).collect();
    assert_eq!(kernels, ["linear", "attention", "linear", "conv"]);
    assert_eq!(outcome(&lines, "doctor").unwrap()["outcome"], "done");
    // There is a time anyway, by the reference where the kernel is wrong.
    let timed = lines.iter().find(|line| line["seconds_per_image"].is_number()).unwrap();
    assert_eq!(timed["part"], "bf16");
    assert_eq!(timed["reference"][0], "attention");
    let failed = outcome(&lines, "fp8").unwrap();
    assert_eq!(failed["outcome"], "failed");
    assert_eq!(failed["reason"], "no such tier");
}

#[test]
fn a_second_call_goes_on_where_the_first_one_ended() {
    let bench = Bench::new();
    let parts = ["doctor", "bf16", "fp8"];
    bench.call(PROGRAM, "first", &parts[..2]);
    let started = |lines: &[Value], part: &str| {
        lines.iter().filter(|line| line["part"] == part && line["outcome"] == "started").count()
    };
    // What is done stays done; what was known is in the new file too.
    let (_, lines) = bench.call(PROGRAM, "second", &parts);
    assert_eq!(["doctor", "bf16", "fp8"].map(|part| started(&lines, part)), [1, 1, 1]);
    assert!(outcome(&lines, "bf16").is_some());
    // A binary that was mended is measured anew.
    let mended = PROGRAM.replace("no such tier", "no such tier yet");
    let (_, lines) = bench.call(&mended, "third", &parts);
    assert_eq!(["doctor", "bf16", "fp8"].map(|part| started(&lines, part)), [2, 2, 2]);
}

#[test]
fn a_part_that_hangs_is_ended_at_its_limit_and_the_next_one_runs() {
    let bench = Bench::new();
    let hangs = "#!/bin/sh
case \"$*\" in
*fp8*) echo '{\"reference\":[],\"seconds_per_image\":0.5,\"spread\":[0.4,0.6],\"stages\":{}}' ;;
*) echo 'before it hung' >&2; sleep 600 & wait ;;
esac
";
    let (done, lines) = bench.call(hangs, "only", &["bf16", "fp8", "--limit=1"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let hung = outcome(&lines, "bf16").unwrap();
    assert_eq!(hung["outcome"], "timed out");
    assert_eq!(hung["reason"], "before it hung");
    assert_eq!(outcome(&lines, "fp8").unwrap()["outcome"], "done");
}

#[test]
fn a_trace_becomes_a_table_of_the_last_image() {
    let bench = Bench::new();
    // A library that the driver would load; here the program writes the trace itself: a warm-up, its
    // download, a pause for a PNG, then an image of 400 kernels with a pause for its noise.
    fs::write(bench.path("trace.so"), "").unwrap();
    let traced = r#"#!/bin/sh
awk 'BEGIN {
  for (i = 0; i < 900; i++) {
    t += 6000 + (i == 500 || i == 520 ? 5000000 : 0)
    name = i == 499 ? "memcpy DtoH" : i % 2 ? "nvjet_sm90_tst" : "sm90_flash_fprop_wgmma"
    printf "%d\t5000\t132\t256\t64\t0\t%s\n", t, name
  }
}' >"$TRACE_OUT"
echo '{"reference":[],"seconds_per_image":0.5,"spread":[0.4,0.6],"stages":{}}'
"#;
    let (_, lines) = bench.call(traced, "only", &["kernels bf16"]);
    assert_eq!(outcome(&lines, "kernels bf16").unwrap()["outcome"], "done", "{lines:#?}");
    let table = lines.iter().find(|line| line["families"].is_object()).unwrap();
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-6;
    assert!(near(&table["busy_ms"], 2.0) && near(&table["families"]["attention"], 1.0), "{table}");
    assert_eq!(table["kernels"][0]["calls"], 200);
}

#[test]
fn without_a_card_nothing_is_written() {
    let bench = Bench::new();
    let python = ["-c", "import sys; print(sys.executable)"];
    let python = Command::new("python3").args(python).output().unwrap().stdout;
    let done = Command::new(String::from_utf8(python).unwrap().trim())
        .arg(entry())
        .args(["obscura", "--results"])
        .arg(bench.path("results"))
        .env("PATH", "")
        .output()
        .unwrap();
    assert!(!done.status.success());
    assert!(!bench.path("results").exists());
}

#[test]
fn the_plan_and_a_report_need_no_card() {
    let bench = Bench::new();
    let (_, lines) = bench.call(PROGRAM, "first", &["doctor", "bf16"]);
    assert!(!lines.is_empty());
    let file = fs::read_dir(bench.path("first")).unwrap().next().unwrap().unwrap().path();
    let run = |words: &[&std::ffi::OsStr]| {
        let done = Command::new("python3").arg(entry()).args(words).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let report = run(&["--report".as_ref(), file.as_os_str()]);
    assert!(report.contains("| bf16 (reference: attention) | 500.0 |"), "{report}");
    assert!(report.contains("failed: attention"), "{report}");
    // A kernel that a library refused is slow, as doctor counts; one that failed is wrong.
    assert!(report.contains("doctor: 3 of 4 comparisons are right, 1 on a slow path"), "{report}");
    assert!(report.contains("- slow: conv, bf16: the_library_offers_nothing"), "{report}");
    assert!(!report.contains("- slow: attention"), "{report}");
    let plan = run(&["--dry-run".as_ref()]);
    assert!(plan.contains("call 1") && plan.contains("doctor"), "{plan}");
}
