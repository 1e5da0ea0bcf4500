//! `obscura doctor`: what the machine lacks, and whether a device computes what it should.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use candle_core::Device;
use flux::{
    Precision,
    doctor::{Depth, Finding, Verdict, examine},
    groups::{self, Groups},
};
use printable::Printable;
use serde_json::{Value, json};

use crate::{
    args::DoctorArgs,
    device::DTypeChoice,
    device::{self, DeviceChoice},
    machine::Machine,
    prospects::{Prospect, prospects},
    store,
};

/// With `--json` an object a line, each as soon as it is known: of the kinds `machine`, `device`, `finding`
/// and, last, `summary`. What a crash leaves behind is then all that was found before it.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let off = groups::turned_off()?;
    let items = this_machine()?.look();
    for item in &items {
        if args.json {
            say(&with_kind("machine", item.to_json()))?;
        } else {
            say(&item)?;
        }
    }
    let device = args.gpu.map_or(args.device, DeviceChoice::Cuda).open()?;
    let depth = if args.short { Depth::Short } else { Depth::Full };
    // The driver's words, and a driver is the host's to choose.
    let name = Printable::new(&device::name(&device)?).into_string();
    if args.json {
        say(&json!({ "kind": "device", "card": name, "reference": off.names() }))?;
    } else {
        say(&format_args!("\n{name}: ‖kernel − reference‖ / ‖reference‖"))?;
    }
    let mut told = Ok(());
    let mut tell = |finding: Finding| {
        let said = if args.json {
            say(&with_kind("finding", to_json(&finding)))
        } else {
            say(&to_line(&finding))
        };
        told = std::mem::replace(&mut told, Ok(())).and(said);
    };
    let outcome =
        examine(&device, depth, &[Precision::Fp8, Precision::F32, Precision::Int8], &mut tell)
            .with_context(|| format!("{name} failed"))?;
    told?;
    if args.json {
        say(&json!({
            "kind": "summary",
            "card": name,
            "result": if outcome.failed { "fail" } else { "pass" },
            "comparisons": outcome.comparisons,
            "slow": outcome.slow,
            "bad_groups": outcome.bad.names(),
            "lost": outcome.lost,
            "possible":
                prospects(&items).iter().map(Prospect::to_json).collect::<Value>(),
        }))?;
    } else {
        let (all, slow) = (outcome.comparisons, outcome.slow);
        say(&format_args!("{all} comparisons, {slow} of them of slow paths"))?;
        if device.is_cpu() {
            say(&"e4m3 has no kernels on a CPU")?;
        }
        if outcome.lost.is_none() && !outcome.failed {
            say(&"\nWith this machine as it is:")?;
            for prospect in prospects(&items) {
                say(&format_args!("  {prospect}"))?;
            }
        }
    }
    if let Some(lost) = &outcome.lost {
        bail!("{name} answered nothing any more after: {lost}");
    }
    ensure!(!outcome.failed, "not every kernel agrees with its reference: {}", outcome.bad);
    Ok(())
}

/// A line on standard output, now.
fn say(line: &dyn std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn with_kind(kind: &str, mut object: Value) -> Value {
    object["kind"] = kind.into();
    object
}

fn this_machine() -> anyhow::Result<Machine> {
    // As huggingface_hub has it: HF_TOKEN_PATH, else below HF_HOME, else below the home directory.
    let home = env::var_os("HF_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cache/huggingface")));
    let token_file = env::var_os("HF_TOKEN_PATH").map(PathBuf::from);
    Ok(Machine {
        root: PathBuf::from("/"),
        model: store::directory("flux1-schnell")?,
        has_token: env::var_os("HF_TOKEN").is_some_and(|token| !token.is_empty()),
        token_file: token_file.or_else(|| home.map(|home| home.join("token"))),
        built_for_gpus: cfg!(feature = "cuda"),
        library_folders: library_folders(),
    })
}

/// Those of LD_LIBRARY_PATH, then those that this process's libraries came from.
fn library_folders() -> Vec<PathBuf> {
    let named = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mapped: BTreeSet<&Path> = maps
        .lines()
        .filter_map(|line| Path::new(line.split_ascii_whitespace().nth(5)?).parent())
        .collect();
    env::split_paths(&named).chain(mapped.into_iter().map(Path::to_owned)).collect()
}

/// Whoever serves computes with all of its kernels: the variable is for finding out which one is wrong.
pub(crate) fn refuse_reference() -> anyhow::Result<()> {
    let off = groups::turned_off()?;
    ensure!(
        off == Groups::default(),
        "{} is for measurements, and turns off: {off}; a node computes with all of its kernels: unset it",
        groups::VARIABLE
    );
    Ok(())
}

/// The short form, before a node becomes ready: an error where a kernel computes something else than its
/// reference. A CPU's kernels for f32 compute the same everywhere, and are tested where they are built; those for bf16
/// and int8 are the processor's.
pub(crate) fn refuse_wrong_kernels(device: &Device, dtype: DTypeChoice) -> anyhow::Result<()> {
    let precision = dtype.precision(device)?;
    if device.is_cpu() && precision == Precision::F32 {
        return Ok(());
    }
    let mut first = None;
    let mut tell = |finding: Finding| {
        if !finding.verdict.is_safe() && first.is_none() {
            // Without what lines up columns.
            first = Some(to_line(&finding).split_whitespace().collect::<Vec<_>>().join(" "));
        } else if finding.is_slow() {
            tracing::warn!(
                kernel = finding.kernel,
                case = %finding.case,
                reason = finding.refusal.as_deref().unwrap_or("no kernel for such tensors"),
                "no fast kernel"
            );
        }
    };
    examine(device, Depth::Short, &[precision], &mut tell).context("the device failed")?;
    match first {
        Some(line) => {
            bail!("a kernel disagrees with its reference: {line}; `obscura doctor` tells more")
        }
        None => Ok(()),
    }
}

fn to_line(finding: &Finding) -> String {
    let Finding { kernel, case, verdict, refusal, .. } = finding;
    let verdict = match verdict {
        Verdict::Agrees(by) => format!("ok        {:.1e} < {:.0e}", by.error, by.tolerance),
        Verdict::Disagrees(by) => format!("WRONG     {:.1e} ≥ {:.0e}", by.error, by.tolerance),
        Verdict::Nondeterministic => "VARIES    two runs differ".to_owned(),
        Verdict::NoKernel => "NONE      the reference computes".to_owned(),
        Verdict::Failed(error) => format!("FAILED    {}", chain(error)),
    };
    let refusal = refusal.as_ref().map(|reason| format!("  ({reason})")).unwrap_or_default();
    format!("{kernel:30} {case:48} {verdict}{refusal}")
}

fn to_json(finding: &Finding) -> Value {
    let Finding { kernel, case, groups, verdict, refusal, seconds } = finding;
    let (result, error, tolerance, failure) = match verdict {
        Verdict::Agrees(by) => ("agrees", Some(by.error), Some(by.tolerance), None),
        Verdict::Disagrees(by) => ("disagrees", Some(by.error), Some(by.tolerance), None),
        Verdict::Nondeterministic => ("nondeterministic", None, None, None),
        Verdict::NoKernel => ("no kernel", None, None, None),
        Verdict::Failed(error) => ("failed", None, None, Some(chain(error))),
    };
    json!({
        "groups": groups.names(), "kernel": kernel, "case": case, "result": result, "error": error,
        "tolerance": tolerance, "reason": failure.as_ref().or(refusal.as_ref()), "seconds": seconds,
    })
}

/// An error and what lies under it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        text = format!("{text}: {below}");
        source = below.source();
    }
    // Backtraces come behind an empty line.
    text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join("; ")
}
