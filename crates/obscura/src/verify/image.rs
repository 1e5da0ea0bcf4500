//! `obscura verify --image`: whether an image is from an attested node, offline where its evidence was kept.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use attest::{Report, verify::Attested};
use client::Evidence;
use provenance::{MAX_FILE_BYTES, Manifest};
use serde_json::json;

use crate::{
    args::VerifyArgs,
    disclosure::{Disclosure, bounded},
    findings::Findings,
    hex,
};

/// Judges the image, by the evidence of the node that is asked or was.
pub(super) fn run(
    args: &VerifyArgs,
    image: &Path,
    evidence: Option<&Evidence>,
) -> anyhow::Result<ExitCode> {
    let file = bounded(image, MAX_FILE_BYTES)?;
    let disclosure = match (&args.disclose, &args.prompt_file) {
        (Some(told), Some(prompt)) => Some(Disclosure::read(told, prompt)?),
        _ => None,
    };
    let policy = super::policy(&args.trust)?;
    let appraisal = evidence.map(|evidence| evidence.appraise(&policy));
    let mut findings = Findings::new();
    let manifest = findings.take("image.manifest", Manifest::read(&file));
    if let Some(manifest) = &manifest {
        findings
            .pass("image.manifest", "C2PA: made by a model that was trained, on an Obscura node");
        if findings.take("image.bytes", manifest.check_bytes(&file)).is_some() {
            findings.pass("image.bytes", "the file is as it was signed");
        }
        if findings.take("image.signature", manifest.check_signature()).is_some() {
            let key = hex(&manifest.signer_spki_sha256);
            findings.pass("image.signature", format!("of the key with SHA-256 {key}"));
        }
        if let Some(disclosure) = &disclosure {
            let opens = disclosure.opens(&manifest.statement.commitment);
            findings.expect(
                "image.commitment",
                opens,
                match opens {
                    true => "prompt, seed, size and steps are those that were committed to",
                    false => "something else was asked for, or the salt is another",
                },
            );
        }
    }
    match (&appraisal, &manifest) {
        (None, _) => findings.fail(
            "image.node",
            "no evidence says whose key that is: name the node's URL, or --report with what \
             `obscura verify --save` kept",
        ),
        (Some(appraisal), manifest) => {
            findings.worse(appraisal.verdict);
            match (appraisal.attested(), manifest) {
                (Some(attested), Some(manifest)) => {
                    let report = evidence.and_then(|evidence| Report::parse(&evidence.report).ok());
                    let report = report.context("evidence that was accepted can be read")?;
                    by_evidence(manifest, attested, &report, &mut findings);
                }
                (None, _) => findings.fail("image.node", "the evidence is not accepted"),
                (_, None) => {}
            }
        }
    }
    if args.json {
        let mut said = findings.to_json();
        if let Some(said) = said.as_object_mut() {
            said.insert("evidence".to_owned(), json!(appraisal));
        }
        println!("{}", serde_json::to_string_pretty(&said)?);
    } else {
        if let Some(appraisal) = &appraisal {
            println!("{appraisal}\n");
        }
        findings.print("the image, and where it says it is from");
    }
    Ok(findings.exit_code())
}

/// Holds what the manifest says of the node against what the evidence shows.
fn by_evidence(manifest: &Manifest, attested: &Attested, report: &Report, findings: &mut Findings) {
    let statement = &manifest.statement;
    let holds = attested.c2pa_spki_sha256 == Some(manifest.signer_spki_sha256);
    findings.expect(
        "image.node",
        holds,
        match (holds, attested.c2pa_spki_sha256) {
            (true, _) => "the evidence names the key that signed it",
            (false, Some(_)) => "somebody else's key signed it, or a node's before its last start",
            (false, None) => "the node of this evidence signs no images",
        },
    );
    let holds = statement.model_manifest == attested.model_manifest;
    let model = hex(&statement.model_manifest);
    findings.expect("image.model", holds, format!("drawn with the model of manifest {model}"));
    let measured = attest::measurements(report.platform, &report.quote);
    let holds = statement.platform == report.platform.name()
        && measured.is_some_and(|measured| measured == statement.measurements);
    findings.expect(
        "image.measurements",
        holds,
        match holds {
            true => format!("drawn in the guest that was attested ({})", statement.platform),
            false => "drawn in a guest that measures otherwise".to_owned(),
        },
    );
    match statement.keyset == attested.keyset_digest {
        true => findings.pass("image.keyset", "drawn while these keys served"),
        false => findings.skip("image.keyset", "drawn while other keys of the same process served"),
    }
}
