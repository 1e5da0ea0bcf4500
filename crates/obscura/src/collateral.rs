//! `obscura collateral`: what quotes are verified with, from the hardware's maker into a file.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context, bail, ensure};
use attest::{
    NoPlatform, Platform, PlatformChoice,
    collateral::{self, Dated, MAX_DOCUMENT_BYTES, SnpChip, TdxDocuments, TdxPlatform},
    evidence::Tsm,
};
use client::Document;
use serde_json::json;

use crate::{
    args::{CollateralCommand, CollateralFetchArgs},
    output::say,
    runtime,
    time::At,
};

/// Of `show`, where something is overdue.
const OVERDUE: u8 = 10;
/// Of a file of collateral, and of a quote.
const MAX_BYTES: u64 = 256 * 1024;

pub(crate) fn run(command: &CollateralCommand) -> anyhow::Result<ExitCode> {
    match command {
        CollateralCommand::Fetch(args) => fetch(args),
        CollateralCommand::Show { file, json } => show(&read(file)?, *json),
    }
}

fn fetch(args: &CollateralFetchArgs) -> anyhow::Result<ExitCode> {
    let (platform, quote) = quote(args)?;
    let runtime = runtime::runtime()?;
    let file = match platform {
        Platform::Tdx => runtime.block_on(tdx(&quote, &args.pccs))?,
        Platform::Snp => {
            let chip = SnpChip::of_report(&quote, args.generation)?;
            let [vcek, crl] = chip.urls(&args.kds);
            runtime.block_on(async {
                let (vcek, crl) = (document(&vcek).await?, document(&crl).await?);
                Ok::<_, anyhow::Error>(chip.to_json([&vcek.body, &crl.body])?)
            })?
        }
        platform => bail!("{platform} needs no collateral: --tee tdx or --tee snp"),
    };
    // Whatever a service sent, no node is given a file that it could not read.
    let parts = collateral::parts(&file)?;
    write(&args.output, &file)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    say(args.output.display())?;
    // Overdue or not, it is the newest that there is, and in its place: to ask again would bring nothing better.
    print(&parts)?;
    Ok(ExitCode::SUCCESS)
}

/// Of this machine, or from a file. What it signs does not matter: it names the machine.
fn quote(args: &CollateralFetchArgs) -> anyhow::Result<(Platform, Vec<u8>)> {
    if let Some(file) = &args.quote {
        // It need not be of this machine.
        let platform = match args.tee {
            PlatformChoice::Tdx => Platform::Tdx,
            PlatformChoice::Snp => Platform::Snp,
            _ => bail!("--quote: of which kind is it? --tee tdx or --tee snp"),
        };
        return Ok((platform, read(file)?));
    }
    let platform = Platform::find(args.tee, Path::new("/dev")).map_err(|error| match error {
        // Whose own advice, to simulate one, is none here.
        NoPlatform::None => anyhow::anyhow!(
            "no TEE found: neither /dev/tdx_guest nor /dev/sev-guest exists; run inside a TDX or SEV-SNP guest, or \
             name a quote of one with --quote and --tee"
        ),
        error => error.into(),
    })?;
    let mut tsm = match platform {
        Platform::Tdx => Tsm::tdx(),
        Platform::Snp => Tsm::snp(),
        platform => bail!("{platform} needs no collateral: --tee tdx or --tee snp"),
    };
    Ok((platform, tsm.quote(&[0; 64])?))
}

async fn tdx(quote: &[u8], service: &str) -> anyhow::Result<Vec<u8>> {
    let urls = TdxPlatform::of_quote(quote)?.urls(service);
    let chain = |document: &Document, names: &[&'static str]| {
        let found = names.iter().find_map(|name| document.header(name));
        found.map(str::to_owned).with_context(|| format!("the answer has no {}", names[0]))
    };
    let pck_crl = document(&urls.pck_crl).await?;
    let root_crl = document(&urls.root_crl).await?;
    let tcb_info = document(&urls.tcb_info).await?;
    let qe_identity = document(&urls.qe_identity).await?;
    let documents = TdxDocuments {
        pck_crl: (pck_crl.body.clone(), chain(&pck_crl, &["SGX-PCK-CRL-Issuer-Chain"])?),
        root_crl: root_crl.body,
        tcb_info: (
            tcb_info.body.clone(),
            chain(&tcb_info, &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"])?,
        ),
        qe_identity: (
            qe_identity.body.clone(),
            chain(&qe_identity, &["SGX-Enclave-Identity-Issuer-Chain"])?,
        ),
    };
    Ok(documents.to_json()?)
}

async fn document(url: &str) -> anyhow::Result<Document> {
    let got = client::document(url, MAX_DOCUMENT_BYTES).await;
    // The client's words are of nodes; the URL says who it is here.
    got.with_context(|| format!("asking {url}"))
}

fn show(file: &[u8], as_json: bool) -> anyhow::Result<ExitCode> {
    let parts = collateral::parts(file)?;
    if !as_json {
        return print(&parts);
    }
    let (until, is_overdue) = due(&parts)?;
    let parts: Vec<_> = parts
        .iter()
        .map(|part| json!({ "what": part.what, "of": part.of, "from": part.from, "until": part.until }))
        .collect();
    say(json!({ "parts": parts, "until": until.to_string(), "overdue": is_overdue }))?;
    Ok(code(is_overdue))
}

fn print(parts: &[Dated]) -> anyhow::Result<ExitCode> {
    for part in parts {
        say(format_args!("  {}", printable::Printable::new(&part.to_string())))?;
    }
    let (until, is_overdue) = due(parts)?;
    match is_overdue {
        true => say(format_args!("OVERDUE since {until}: verifiers refuse quotes with it"))?,
        false => say(format_args!("holds until {until}"))?,
    }
    Ok(code(is_overdue))
}

fn code(is_overdue: bool) -> ExitCode {
    if is_overdue { ExitCode::from(OVERDUE) } else { ExitCode::SUCCESS }
}

/// When the first of them is due, and whether that is past.
fn due(parts: &[Dated]) -> anyhow::Result<(At, bool)> {
    let times = parts.iter().map(|part| part.until.parse::<At>().map(|At(secs)| secs));
    let times: Vec<u64> = times.collect::<anyhow::Result<_>>()?;
    let first = times.into_iter().min().context("the file has no parts")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock")?;
    Ok((At(first), first <= now.as_secs()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {shown}"))?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "{shown} is longer than {MAX_BYTES} bytes");
    Ok(bytes)
}

/// In place of the older file, which a node reads for every quote: it sees the one or the other, whole.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let mut file = File::create_new(&part)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&part, path))
        .inspect_err(|_| drop(fs::remove_file(&part)))
}
