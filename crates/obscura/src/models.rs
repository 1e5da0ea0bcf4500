//! `obscura models`: which models there are, and which bytes they are made of.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use flux::{Lora, Manifest, ManifestLora};

use crate::{
    args::{DownloadArgs, ModelsCommand},
    model,
    output::say,
    progress,
    store::{self, MANIFEST_FILE},
};

pub(crate) fn run(command: ModelsCommand) -> anyhow::Result<()> {
    match command {
        ModelsCommand::List => list(),
        ModelsCommand::Download(args) => download(args),
        ModelsCommand::Pin { directory, output, lora } => pin(&directory, output, &lora),
        ModelsCommand::Check { directory, manifest, lora } => check(&directory, manifest, &lora),
    }
}

fn list() -> anyhow::Result<()> {
    say(model::DEMO)?;
    say(format_args!("  is        {}", model::DEMO_NOTICE))?;
    say("  here      in this program")?;
    for known in store::KNOWN {
        let manifest = known.manifest()?;
        say(known.name)?;
        say(format_args!("  from      {}", manifest.repository.as_deref().unwrap_or("-")))?;
        say(format_args!("  revision  {}", manifest.revision.as_deref().unwrap_or("-")))?;
        say(format_args!("  licence   {}", manifest.licence.as_deref().unwrap_or("-")))?;
        let directory = store::directory(known.name)?;
        let state = if directory.is_dir() { "" } else { " (not there)" };
        say(format_args!("  here      {}{state}", directory.display()))?;
    }
    Ok(())
}

#[cfg(feature = "download")]
fn download(args: DownloadArgs) -> anyhow::Result<()> {
    crate::download::run(args)
}

#[cfg(not(feature = "download"))]
fn download(args: DownloadArgs) -> anyhow::Result<()> {
    // No build can download another.
    args.name.as_deref().map(store::Known::to_download).transpose()?;
    anyhow::bail!(
        "this build cannot download; one that can: \
         `cargo build --release -p obscura --features download`"
    )
}

fn pin(directory: &Path, output: Option<PathBuf>, loras: &[Lora]) -> anyhow::Result<()> {
    let loras = measured(loras)?;
    let bar = progress::load();
    let pinned = Manifest::of_directory(directory, &mut |progress| bar.show(&progress))?;
    bar.finish();
    let published = published(&pinned)?;
    let output = output.unwrap_or_else(|| directory.join(MANIFEST_FILE));
    let manifest = match &published {
        None => Manifest { loras, ..pinned },
        Some(known) => Manifest {
            repository: known.repository.clone(),
            revision: known.revision.clone(),
            licence: known.licence.clone(),
            files: pinned.files,
            loras,
        },
    };
    let digest = hex::encode(manifest.digest()?);
    write(&output, &manifest).with_context(|| format!("cannot write {}", output.display()))?;
    say(output.display())?;
    say(format_args!("{}, manifest digest {digest}", counted(&manifest)))
}

/// What a manifest says of these.
fn measured(loras: &[Lora]) -> anyhow::Result<Vec<ManifestLora>> {
    Ok(loras.iter().map(ManifestLora::of).collect::<Result<_, _>>()?)
}

fn counted(manifest: &Manifest) -> String {
    let files = format!("{} files", manifest.files.len());
    match manifest.loras.len() {
        0 => files,
        1 => format!("{files} and a LoRA"),
        loras => format!("{files} and {loras} LoRAs"),
    }
}

/// The known model that these files are of, if they are of one: a file has a digest that its
/// publisher gives. A file of the published name and length with another digest is not pinned
/// silently.
fn published(pinned: &Manifest) -> anyhow::Result<Option<Manifest>> {
    for known in store::KNOWN {
        let manifest = known.manifest()?;
        let mut is_known = false;
        for file in &pinned.files {
            let Some(sha256) = manifest.file(&file.path).and_then(|known| known.sha256) else {
                continue;
            };
            let found = file.sha256.context("a file that was read has a digest")?;
            ensure!(
                sha256 == found,
                "{}: {} publishes SHA-256 {sha256}, found {found}; rename it if it is another model",
                file.path,
                manifest.repository.as_deref().unwrap_or(known.name)
            );
            is_known = true;
        }
        if is_known {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

fn check(directory: &Path, manifest: Option<PathBuf>, loras: &[Lora]) -> anyhow::Result<()> {
    let own = directory.join(MANIFEST_FILE);
    let shown = directory.display();
    ensure!(directory.is_dir(), "{shown} is no directory");
    ensure!(
        manifest.is_some() || own.symlink_metadata().is_ok(),
        "{shown} has no {MANIFEST_FILE} to compare with: `obscura models pin {shown}` makes one of what is there \
         now, --manifest FILE names another"
    );
    let manifest = store::read_manifest(&manifest.unwrap_or(own))?;
    let loras = measured(loras)?;
    ensure!(
        loras == manifest.loras,
        "other LoRAs are named ({}) than the manifest pins ({}): name exactly those with --lora FILE:WEIGHT, in their \
         order",
        loras.len(),
        manifest.loras.len()
    );
    let bar = progress::load();
    manifest.check(directory, &mut |progress| bar.show(&progress))?;
    bar.finish();
    let digest = hex::encode(manifest.digest()?);
    say(format_args!("{} as pinned, manifest digest {digest}", counted(&manifest)))
}

/// Writes a manifest in place of the one that is there. Its directory may come from anybody: a link of
/// this name is replaced, not followed.
fn write(path: &Path, manifest: &Manifest) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&part)?;
    file.write_all(manifest.to_toml().as_bytes())
        .and_then(|()| fs::rename(&part, path))
        .inspect_err(|_| drop(fs::remove_file(&part)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_manifest_is_not_written_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("authorized_keys");
        fs::write(&secret, "mine").unwrap();
        let output = directory.path().join(MANIFEST_FILE);
        symlink(&secret, &output).unwrap();
        symlink(&secret, directory.path().join("obscura.toml.part")).unwrap();
        write(&output, &Manifest::default()).unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "mine");
        assert!(output.symlink_metadata().unwrap().is_file());
    }
}
