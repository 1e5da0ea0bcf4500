//! `obscura doctor`: whether a GPU computes what it should.

use anyhow::{Context, bail};
use candle_core::Device;
use flux::gpu::{
    self,
    doctor::{Depth, Finding, Verdict, examine},
};
use serde_json::{Value, json};

use crate::{args::DoctorArgs, device};

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let device = device::gpu(args.gpu)?;
    let depth = if args.short { Depth::Short } else { Depth::Full };
    let findings = examine(&device, depth).context("the GPU failed")?;
    let passed = findings.iter().all(|finding| matches!(finding.verdict, Verdict::Agrees(_)));
    if args.json {
        let kernels: Vec<Value> = findings.iter().map(to_json).collect();
        let card = gpu::card(&device)?.name;
        let result = if passed { "pass" } else { "fail" };
        println!("{}", json!({ "card": card, "result": result, "kernels": kernels }));
    } else {
        findings.iter().for_each(|finding| println!("{}", to_line(finding)));
    }
    if !passed {
        bail!("not every kernel agrees with its reference");
    }
    Ok(())
}

/// The short form, before a node becomes ready: an error where a kernel computes something else than
/// its reference.
pub(crate) fn refuse_wrong_kernels(device: &Device) -> anyhow::Result<()> {
    let findings = examine(device, Depth::Short).context("the GPU failed")?;
    for finding in &findings {
        if !finding.verdict.is_safe() {
            bail!(
                "a GPU kernel disagrees with its reference: {}; `obscura doctor` tells more, \
                 OBSCURA_REFERENCE=NAME turns a kernel off",
                to_line(finding)
            );
        }
        if matches!(finding.verdict, Verdict::NoKernel) {
            tracing::warn!(kernel = finding.kernel, case = %finding.case, "no kernel: slow");
        }
    }
    Ok(())
}

fn to_line(Finding { kernel, case, verdict }: &Finding) -> String {
    let verdict = match verdict {
        Verdict::Agrees(by) => format!("ok        {:.1e} < {:.0e}", by.error, by.tolerance),
        Verdict::Disagrees(by) => format!("WRONG     {:.1e} ≥ {:.0e}", by.error, by.tolerance),
        Verdict::Unsteady => "UNSTEADY  two runs differ".to_owned(),
        Verdict::NoKernel => "NONE      the reference computes".to_owned(),
        Verdict::Failed(error) => format!("FAILED    {}", chain(error)),
    };
    format!("{kernel:36} {case:44} {verdict}")
}

fn to_json(Finding { kernel, case, verdict }: &Finding) -> Value {
    let (result, error, tolerance, reason) = match verdict {
        Verdict::Agrees(by) => ("agrees", Some(by.error), Some(by.tolerance), None),
        Verdict::Disagrees(by) => ("disagrees", Some(by.error), Some(by.tolerance), None),
        Verdict::Unsteady => ("unsteady", None, None, None),
        Verdict::NoKernel => ("no kernel", None, None, None),
        Verdict::Failed(error) => ("failed", None, None, Some(chain(error))),
    };
    json!({
        "kernel": kernel, "case": case, "result": result,
        "error": error, "tolerance": tolerance, "reason": reason,
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
