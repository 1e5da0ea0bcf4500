//! `obscura doctor`: what the machine lacks, and whether a device computes what it should.

use std::{env, path::PathBuf};

use anyhow::{Context, bail};
use candle_core::Device;
use flux::bench::Tier;
use flux::doctor::{Depth, Finding, Verdict, examine};
use printable::Printable;
use serde_json::{Value, json};

use crate::{
    args::{DTypeChoice, DoctorArgs},
    device::{self, DeviceChoice},
    machine::{Item, Machine},
    store,
};

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let machine = this_machine()?.look();
    if !args.json {
        machine.iter().for_each(|item| println!("{item}"));
        println!();
    }
    let device = args.gpu.map_or(args.device, DeviceChoice::Cuda).open()?;
    let depth = if args.short { Depth::Short } else { Depth::Full };
    // The driver's words, and a driver is the host's to choose.
    let name = Printable::new(&device::name(&device)?);
    let findings = examine(&device, depth, &[Tier::Fp8, Tier::F32])
        .with_context(|| format!("{name} failed"))?;
    let passed = findings.iter().all(|finding| finding.verdict.is_safe());
    let slow = findings.iter().filter(|finding| is_slow(finding)).count();
    if args.json {
        let kernels: Vec<Value> = findings.iter().map(to_json).collect();
        let result = if passed { "pass" } else { "fail" };
        let machine: Vec<Value> = machine.iter().map(Item::to_json).collect();
        println!(
            "{}",
            json!({ "card": name, "result": result, "kernels": kernels, "machine": machine })
        );
    } else {
        println!("{name}: ‖kernel − reference‖ / ‖reference‖");
        findings.iter().for_each(|finding| println!("{}", to_line(finding)));
        println!("{} comparisons, {slow} of them of slow paths", findings.len());
        if device.is_cpu() {
            println!("bf16 and e4m3 have no kernels on a CPU: the reference computes them");
        }
    }
    if !passed {
        bail!("not every kernel agrees with its reference");
    }
    Ok(())
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
    })
}

/// The short form, before a node becomes ready: an error where a GPU's kernel computes something else
/// than its reference. A CPU's kernels are the same everywhere, and tested where they are built.
pub(crate) fn refuse_wrong_kernels(device: &Device, dtype: DTypeChoice) -> anyhow::Result<()> {
    if device.is_cpu() {
        return Ok(());
    }
    let findings =
        examine(device, Depth::Short, &[dtype.tier(device)]).context("the GPU failed")?;
    for finding in &findings {
        if !finding.verdict.is_safe() {
            // Without what lines up columns.
            let line = to_line(finding).split_whitespace().collect::<Vec<_>>().join(" ");
            bail!(
                "a GPU kernel disagrees with its reference: {line}; `obscura doctor` tells more, \
                 OBSCURA_REFERENCE=NAME turns a kernel off"
            );
        }
        if is_slow(finding) {
            tracing::warn!(
                kernel = finding.kernel,
                case = %finding.case,
                reason = finding.refusal.as_deref().unwrap_or("turned off"),
                "no fast kernel"
            );
        }
    }
    Ok(())
}

/// Right, but by a longer way than there might be.
fn is_slow(finding: &Finding) -> bool {
    matches!(finding.verdict, Verdict::NoKernel) || finding.refusal.is_some()
}

fn to_line(Finding { kernel, case, verdict, refusal }: &Finding) -> String {
    let verdict = match verdict {
        Verdict::Agrees(by) => format!("ok        {:.1e} < {:.0e}", by.error, by.tolerance),
        Verdict::Disagrees(by) => format!("WRONG     {:.1e} ≥ {:.0e}", by.error, by.tolerance),
        Verdict::Unsteady => "UNSTEADY  two runs differ".to_owned(),
        Verdict::NoKernel => "NONE      the reference computes".to_owned(),
        Verdict::Failed(error) => format!("FAILED    {}", chain(error)),
    };
    let refusal = refusal.as_ref().map(|reason| format!("  ({reason})")).unwrap_or_default();
    format!("{kernel:30} {case:48} {verdict}{refusal}")
}

fn to_json(Finding { kernel, case, verdict, refusal }: &Finding) -> Value {
    let (result, error, tolerance, failure) = match verdict {
        Verdict::Agrees(by) => ("agrees", Some(by.error), Some(by.tolerance), None),
        Verdict::Disagrees(by) => ("disagrees", Some(by.error), Some(by.tolerance), None),
        Verdict::Unsteady => ("unsteady", None, None, None),
        Verdict::NoKernel => ("no kernel", None, None, None),
        Verdict::Failed(error) => ("failed", None, None, Some(chain(error))),
    };
    json!({
        "kernel": kernel, "case": case, "result": result, "error": error,
        "tolerance": tolerance, "reason": failure.as_ref().or(refusal.as_ref()),
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
    text.lines().next().unwrap_or_default().to_owned()
}
