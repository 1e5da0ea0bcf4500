//! `obscura replay`: draws an image again, and says whether its receipt is true.

use std::{io::Cursor, ops::ControlFlow, process::ExitCode};

use ::image::ImageReader;
use anyhow::{Context, ensure};
use attest::{Report, verify::Attested};
use flux::{Image, Job, LargestBatch};
use protocol::{Count, Seed, Steps};
use provenance::{MAX_FILE_BYTES, MarkId, SignedReceipt, mark, pixels_digest};
use sha2::{Digest, Sha256};

use crate::{
    args::ReplayArgs,
    disclosure::{self, Disclosure, Mismatch, bounded},
    findings::Findings,
    model,
    output::say,
    verify,
};

/// How near an image is to one that the same model drew on another machine or in another precision, in dB
/// of the peak signal-to-noise ratio. In the emulated comparison of docs/gpu.md the worst of forty images of the
/// demo model is 37.0 dB from f32 in 8 bits.
const MIN_PSNR_DB: f64 = 36.0;
/// How much nearer it is than one of another seed: small images, and those of few steps, are near to each
/// other.
const MIN_NEARER_DB: f64 = 3.0;

pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    ensure!(
        !args.trust.require_attested_tls,
        "--require-attested-tls is about a connection, and a report that was saved tells of none: leave it out"
    );
    flux::groups::turned_off()?;
    let inputs = (&args.input_image[..], args.input_mask.as_deref());
    let disclosure = Disclosure::read(&args.receipt, &args.prompt_file, inputs)?;
    let mut findings = Findings::new();
    judge(args, &disclosure, &mut findings)?;
    match args.json {
        true => say(serde_json::to_string_pretty(&findings.to_json())?),
        false => findings.print("what the receipt says of this image"),
    }?;
    Ok(findings.exit_code())
}

/// From what is cheap to look at to what is drawn.
fn judge(
    args: &ReplayArgs,
    disclosure: &Disclosure,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let signed = disclosure.receipt().and_then(|bytes| SignedReceipt::read(&bytes));
    let Some(signed) = findings.take("receipt.signature", signed) else { return Ok(()) };
    let receipt = &signed.receipt;
    let key = hex::encode(signed.signing_key);
    findings.pass("receipt.signature", format!("of the Ed25519 key {key}"));
    node(args, &signed, findings)?;
    let opens = disclosure.opens(&receipt.statement.commitment);
    let id = "receipt.commitment";
    match &opens {
        Ok(()) => findings.pass(id, disclosure::OPENED),
        Err(Mismatch::Asked) => findings.fail(
            id,
            "it is for another prompt, seed, size or number of steps, or the salt is another",
        ),
        Err(mismatch) => findings.fail(id, mismatch.to_string()),
    }
    let mut file = args.image.as_deref().map(|image| bounded(image, MAX_FILE_BYTES)).transpose()?;
    if let Some(bytes) = &file {
        let holds = receipt.file == *Sha256::digest(bytes.as_slice());
        findings.expect(
            "receipt.file",
            holds,
            match holds {
                true => "the file is the one that the node gave",
                false => "it is for another file: another image, or this one encoded again",
            },
        );
        file = file.filter(|_| holds);
    }
    if opens.is_err() {
        findings.skip("receipt.drawing", "not drawn again");
        return Ok(());
    }
    let steps = i64::try_from(disclosure.steps()).ok().and_then(|steps| Steps::new(steps).ok());
    let steps = steps.context("`steps` is more than a node takes")?;
    let batch = LargestBatch { images: 1, pixels: disclosure.size.pixels() };
    let pipeline = model::load(&args.model, batch)?;
    let here = pipeline.digest();
    let holds = here == receipt.statement.model_manifest;
    findings.expect(
        "receipt.model",
        holds,
        match holds {
            true => {
                format!("the model here is the one that it names, manifest {}", hex::encode(here))
            }
            false => format!(
                "it names the model of manifest {}; the one here has {} (--model names another)",
                hex::encode(receipt.statement.model_manifest),
                hex::encode(here)
            ),
        },
    );
    if !holds {
        findings.skip("receipt.drawing", "not drawn again");
        return Ok(());
    }
    let inputs = disclosure.input_images()?;
    let place = pipeline.place();
    let draw = |seed: u64| {
        let job = Job {
            prompt: &disclosure.prompt,
            size: disclosure.size,
            steps,
            seed: Seed::new(seed),
            count: Count::ONE,
            guidance: disclosure.guidance().unwrap_or(flux::GUIDANCE),
            images: &inputs,
        };
        let mut drawn = pipeline.generate(&job, &mut |_| ControlFlow::Continue(()))?;
        drawn.images.pop().context("the model drew nothing")
    };
    let (check, image) = ("receipt.drawing", draw(disclosure.seed())?);
    let (width_px, height_px) = (image.size.width_px(), image.size.height_px());
    if pixels_digest(width_px, height_px, &image.rgb) == receipt.pixels {
        findings.pass(check, format!("drawn again on {place}: bit for bit the same"));
        return Ok(());
    }
    let Some(file) = file else {
        findings.fail(
            check,
            format!(
                "drawn again on {place}: other pixels. Where the node computes in another way than this machine, \
                 --image lets them be compared within a bound"
            ),
        );
        return Ok(());
    };
    let Some(theirs) = decoded(&file, (width_px, height_px)) else {
        findings
            .fail(check, "other pixels, and the image cannot be decoded, or is of another size");
        return Ok(());
    };
    let other = draw(disclosure.seed().wrapping_add(1))?;
    let id = MarkId::of_key(&signed.signing_key);
    let (near, other) = (nearness_db(image, id, &theirs), nearness_db(other, id, &theirs));
    findings.expect(
        check,
        near >= MIN_PSNR_DB && near >= other + MIN_NEARER_DB,
        format!(
            "drawn again on {place}: {near:.1} dB from the image, and {other:.1} with another seed; at least \
             {MIN_PSNR_DB} are asked for, and {MIN_NEARER_DB} more than with that"
        ),
    );
    Ok(())
}

/// Whether the evidence names the key, where there is any.
fn node(args: &ReplayArgs, signed: &SignedReceipt, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(report) = &args.report else {
        findings.skip(
            "receipt.node",
            "no --report says whose key that is: anybody signs receipts with a key of their own",
        );
        findings.of_part("the drawing alone");
        return Ok(());
    };
    let evidence = verify::read(report, args.nonce, args.at)?;
    let appraisal = evidence.appraise(&verify::policy(&args.trust)?);
    findings.worse(appraisal.verdict);
    let models = match appraisal.attested() {
        Some(_) => Report::parse(&evidence.report).context("the report")?.models(),
        None => Vec::new(),
    };
    let of_receipt = |attested: &Attested| {
        attested.signing_key == signed.signing_key
            && attested.keyset_digest == signed.receipt.statement.keyset
            && models.iter().any(|model| model.manifest == signed.receipt.statement.model_manifest)
    };
    match appraisal.attested() {
        Some(attested) => findings.expect(
            "receipt.node",
            of_receipt(attested),
            match of_receipt(attested) {
                true => "the evidence names its key, keyset and model",
                false => "the evidence is of another key, keyset or model",
            },
        ),
        None => {
            findings.fail("receipt.node", format!("the evidence is not accepted:\n{appraisal}"))
        }
    }
    Ok(())
}

/// How near an image is to what was drawn, as it is or with the node's mark.
fn nearness_db(mut drawn: Image, id: MarkId, theirs: &[u8]) -> f64 {
    let as_drawn = psnr_db(&drawn.rgb, theirs);
    mark(drawn.size.width_px(), drawn.size.height_px(), &mut drawn.rgb, id);
    as_drawn.max(psnr_db(&drawn.rgb, theirs))
}

/// 10 log₁₀(255² / mean squared difference).
fn psnr_db(ours: &[u8], theirs: &[u8]) -> f64 {
    let squares = ours.iter().zip(theirs).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    let mean = squares.sum::<f64>() / ours.len().max(1) as f64;
    10.0 * (255.0_f64.powi(2) / mean.max(f64::MIN_POSITIVE)).log10()
}

/// Its pixels, where it has this size, which is looked at before anything is decoded.
fn decoded(file: &[u8], dimensions: (u32, u32)) -> Option<Vec<u8>> {
    let reader = || ImageReader::new(Cursor::new(file)).with_guessed_format().ok();
    if reader()?.into_dimensions().ok()? != dimensions {
        return None;
    }
    Some(reader()?.decode().ok()?.to_rgb8().into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_in_decibels() {
        assert!((psnr_db(&[0; 300], &[255; 300])).abs() < 1e-9);
        assert!((psnr_db(&[10; 300], &[11; 300]) - 48.13).abs() < 0.01);
        assert!(psnr_db(&[10; 300], &[10; 300]) > 1000.0);
    }

    #[test]
    fn only_images_of_the_size_are_decoded() {
        for file in [&b""[..], b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"] {
            assert_eq!(decoded(file, (16, 16)), None);
        }
    }
}
