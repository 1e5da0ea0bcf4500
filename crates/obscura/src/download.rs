//! `obscura models download`: a model's files from the hub, each held against its manifest.
//!
//! A model directory is complete or not there: what was fetched so far lies beside it, in
//! [`Staging`], and becomes the model directory in one step at the end, with the manifest that pins
//! it. The hub is asked for the files that the manifest lists and for no others, so that every name
//! that is written to is one that [`Manifest::parse`] has checked.

mod hub;
mod request;
mod staging;
mod transfer;

use std::{env, fs};

use anyhow::{Context, bail, ensure};
use flux::{FileDigest, Manifest};
use printable::Printable;

use crate::{
    args::DownloadArgs,
    output::{self, say},
    progress, runtime,
    store::{self, MANIFEST_FILE},
};
use hub::{Commit, Hub};
use request::Request;
use staging::Staging;
use transfer::Expected;

pub(crate) fn run(args: DownloadArgs) -> anyhow::Result<()> {
    let request = Request::new(args)?;
    let commit = runtime::runtime()?.block_on(commit(&request))?;
    if request.directory_is_taken()? {
        return already_there(&request, commit.as_ref());
    }
    let Some(commit) = commit else {
        bail!("which commit {} is cannot be asked offline: {OFFLINE}", request.revision)
    };
    let staging = Staging::open(&request.directory, &commit)?;
    let missing = request.missing_from(&staging)?;
    if !missing.is_empty() {
        ensure!(
            !is_offline(),
            "{} of {} files are not there, the first of them {}; {OFFLINE}",
            missing.len(),
            request.manifest.files.len(),
            missing[0].path
        );
        runtime::runtime()?.block_on(fetch(&request, &commit, &staging, &missing))?;
    }
    let pinned = pin(&request, commit, &staging)?;
    staging.install(&request.directory)?;
    tell(&request, &pinned)
}

/// How to go online again.
const OFFLINE: &str = "HF_HUB_OFFLINE is set, so nothing is fetched";

/// hf-hub does not read the variable; its values are those of the hub's other clients.
fn is_offline() -> bool {
    let value = env::var("HF_HUB_OFFLINE").unwrap_or_default().to_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
}

/// The commit of the revision that was asked for. `None` where only the hub knows and may not be
/// asked.
async fn commit(request: &Request) -> anyhow::Result<Option<Commit>> {
    match Commit::parse(&request.revision) {
        None if !is_offline() => Hub::new(&request.repository, request.transport)?
            .commit(&request.revision)
            .await
            .map(Some),
        known => Ok(known),
    }
}

/// A directory that holds the model already is hashed again and left as it is.
fn already_there(request: &Request, commit: Option<&Commit>) -> anyhow::Result<()> {
    let directory = request.directory.display();
    let remedy = "nothing was changed; move it away to download it afresh, or give another --dir";
    let path = request.directory.join(MANIFEST_FILE);
    ensure!(
        path.is_file(),
        "{directory} is there, without the {MANIFEST_FILE} of a finished download: {remedy}, or \
         pin what is there with `obscura models pin`"
    );
    let pinned = store::read_manifest(&path)?;
    ensure!(
        pinned.repository.as_ref() == Some(&request.repository)
            && commit.is_none_or(|commit| pinned.revision.as_deref() == Some(commit.as_str())),
        "{directory} holds {} at {}: {remedy}",
        pinned.repository.as_deref().unwrap_or("another model"),
        pinned.revision.as_deref().unwrap_or("a revision that it does not name")
    );
    for wanted in &request.manifest.files {
        let found = pinned.file(&wanted.path).and_then(|file| file.sha256);
        if let (Some(expected), Some(found)) = (wanted.sha256, found) {
            same(&wanted.path, expected, found).context(remedy)?;
        }
    }
    let bar = progress::load();
    let checked = pinned.check(&request.directory, &mut |progress| bar.show(&progress));
    bar.finish();
    checked.context(remedy)?;
    say("nothing to fetch: every file is there, as pinned")?;
    tell(request, &pinned)
}

async fn fetch(
    request: &Request,
    commit: &Commit,
    staging: &Staging,
    missing: &[&flux::ManifestFile],
) -> anyhow::Result<()> {
    let hub = Hub::new(&request.repository, request.transport)?;
    // Asked even where the manifest knows the commit: this is where a repository or commit that
    // does not exist is told from a file that does not.
    hub.commit(commit.as_str()).await?;
    let listed = hub.listing(commit, missing).await?;
    // All before the first byte: a contradiction is found now, not after an hour.
    let expected: Vec<Expected> = missing
        .iter()
        .map(|&wanted| Expected::new(wanted, &listed))
        .collect::<anyhow::Result<_>>()?;
    let bar = progress::transfer(expected.iter().map(|file| file.bytes).sum());
    for file in &expected {
        bar.set_message(Printable::new(&file.path).into_string());
        let fetched = transfer::fetch(&hub, commit, file, &staging.part(&file.path), &bar).await;
        if fetched.is_err() {
            bar.finish_and_clear();
        }
        let sha256 = fetched?;
        staging.keep(&file.path)?;
        bar.suspend(|| say(format_args!("{sha256}  {}", Printable::new(&file.path))))?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Reads everything again as loading would, and writes the manifest of it.
fn pin(request: &Request, commit: Commit, staging: &Staging) -> anyhow::Result<Manifest> {
    let bar = progress::load();
    let read = Manifest::of_directory(staging.files(), &mut |progress| bar.show(&progress));
    bar.finish();
    let read = read.context("the files are all there, but they are no model that can be loaded")?;
    for wanted in &request.manifest.files {
        let Some(file) = read.file(&wanted.path) else {
            let path = Printable::new(&wanted.path);
            output::note(format_args!("note: {path} is not read by loading, and not pinned"));
            continue;
        };
        if let (Some(expected), Some(found)) = (wanted.sha256, file.sha256) {
            same(&wanted.path, expected, found).with_context(|| {
                let path = staging.file(&wanted.path);
                format!("remove {} to fetch it again", path.display())
            })?;
        }
    }
    let pinned = Manifest {
        repository: Some(request.repository.clone()),
        revision: Some(commit.into_string()),
        licence: request.manifest.licence.clone(),
        files: read.files,
        loras: Vec::new(),
    };
    let path = staging.files().join(MANIFEST_FILE);
    fs::write(&path, pinned.to_toml())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(pinned)
}

fn same(path: &str, expected: FileDigest, found: FileDigest) -> anyhow::Result<()> {
    ensure!(expected == found, "{path}: expected SHA-256 {expected}, found {found}");
    Ok(())
}

fn tell(request: &Request, pinned: &Manifest) -> anyhow::Result<()> {
    let digest = hex::encode(pinned.digest()?);
    say(request.directory.display())?;
    say(format_args!("{} files, manifest digest {digest}", pinned.files.len()))
}
