//! `obscura verify --image`: whether an image is from an attested node, offline where its evidence was kept.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use attest::{Policy, Report, verify::Attested};
use client::Evidence;
use provenance::{FoundMark, MAX_FILE_BYTES, Manifest, MarkId};
use serde_json::json;

use crate::{
    args::VerifyArgs,
    disclosure::{self, Disclosure, bounded},
    findings::Findings,
    marked,
    output::say,
};

/// Judges the image, by the evidence of the node that is asked or was.
pub(super) fn run(
    args: &VerifyArgs,
    image: &Path,
    policy: &Policy,
    evidence: Option<&Evidence>,
) -> anyhow::Result<ExitCode> {
    let file = bounded(image, MAX_FILE_BYTES)?;
    let disclosure = match (&args.disclose, &args.prompt_file) {
        (Some(told), Some(prompt)) => {
            Some(Disclosure::read(told, prompt, (&args.input_image, args.input_mask.as_deref()))?)
        }
        _ => None,
    };
    let appraisal = evidence.map(|evidence| evidence.appraise(policy));
    let mut findings = Findings::new();
    let manifest = findings.take("image.manifest", Manifest::read(&file));
    if let Some(manifest) = &manifest {
        findings
            .pass("image.manifest", "C2PA: made by a model that was trained, on an Obscura node");
        if findings.take("image.bytes", manifest.check_bytes(&file)).is_some() {
            findings.pass("image.bytes", "the file is as it was signed");
        }
        if findings.take("image.signature", manifest.check_signature()).is_some() {
            let key = hex::encode(manifest.signer_spki_sha256);
            findings.pass("image.signature", format!("of the key with SHA-256 {key}"));
        }
        if let Some(disclosure) = &disclosure {
            let id = "image.commitment";
            match disclosure.opens(&manifest.statement.commitment) {
                Ok(()) => findings.pass(id, disclosure::OPENED),
                Err(mismatch) => findings.fail(id, mismatch.to_string()),
            }
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
    let mark = marked::find(&file);
    tell(
        mark.as_ref(),
        appraisal.as_ref().and_then(|appraisal| appraisal.attested()),
        &mut findings,
    );
    if args.json {
        let mut said = findings.to_json();
        if let Some(said) = said.as_object_mut() {
            let mark =
                mark.map(|mark| json!({ "key_id": mark.id.to_string(), "scale": mark.scale }));
            said.insert("mark".to_owned(), json!(mark));
            said.insert("evidence".to_owned(), json!(appraisal));
        }
        say(serde_json::to_string_pretty(&said)?)?;
    } else {
        if let Some(appraisal) = &appraisal {
            say(format_args!("{appraisal}\n"))?;
        }
        findings.print("the image, and where it says it is from")?;
    }
    Ok(findings.exit_code())
}

/// Says what the invisible mark says, which proves nothing and so changes no verdict.
fn tell(mark: Option<&FoundMark>, attested: Option<&Attested>, findings: &mut Findings) {
    let id = "image.mark";
    let Some(mark) = mark else {
        return findings.skip(id, "no invisible mark was found, which says nothing");
    };
    let key = mark.id;
    match attested.map(|attested| MarkId::of_key(&attested.signing_key) == key) {
        Some(true) => findings.pass(
            id,
            format!("an invisible mark: made by AI, by the key with the id {key}, as the evidence's has"),
        ),
        Some(false) => findings.skip(
            id,
            format!("an invisible mark: made by AI, by another key than the evidence's, with the id {key}"),
        ),
        None => findings.pass(
            id,
            format!("an invisible mark: made by AI, by an Obscura node's key with the id {key}"),
        ),
    }
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
    let models = report.models();
    let model = models.iter().find(|model| model.manifest == statement.model_manifest);
    let manifest = hex::encode(statement.model_manifest);
    findings.expect(
        "image.model",
        model.is_some(),
        match model.map(|model| &model.name) {
            Some(Some(name)) => format!("drawn with {name}, the model of manifest {manifest}"),
            Some(None) => format!("drawn with the model of manifest {manifest}"),
            None => format!("drawn with a model that the node does not have, manifest {manifest}"),
        },
    );
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
