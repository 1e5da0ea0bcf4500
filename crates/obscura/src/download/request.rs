//! What is to be downloaded, from where, and to where.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use flux::{Manifest, ManifestFile};

use super::{Staging, hub::Transport};
use crate::{
    args::DownloadArgs,
    store::{self, Known},
};

/// A manifest, and what the command line says beside it.
pub(super) struct Request {
    pub(super) manifest: Manifest,
    /// `owner/name`.
    pub(super) repository: String,
    /// A commit, or a branch or tag whose commit only the hub knows.
    pub(super) revision: String,
    pub(super) directory: PathBuf,
    /// How the hub may be reached.
    pub(super) transport: Transport,
}

impl Request {
    pub(super) fn new(args: DownloadArgs) -> anyhow::Result<Self> {
        let (manifest, default_directory) = match (&args.manifest, &args.name) {
            (Some(path), _) => (store::read_manifest(path)?, None),
            (None, Some(name)) => {
                let known = Known::to_download(name)?;
                (known.manifest()?, Some(store::directory(known.name)?))
            }
            (None, None) => bail!("name a model; see `obscura models list`"),
        };
        let repository = manifest.repository.clone().context("the manifest has no repository")?;
        let revision = args
            .revision
            .or_else(|| manifest.revision.clone())
            .context("the manifest has no revision; give --revision")?;
        let directory = args.dir.or(default_directory).context("give --dir")?;
        let transport = if args.insecure_http { Transport::Insecure } else { Transport::Secure };
        ensure!(!manifest.files.is_empty(), "the manifest lists no file");
        Ok(Self { manifest, repository, revision, directory, transport })
    }

    /// Whether something lies where the model is to lie. An empty directory is as good as none.
    pub(super) fn directory_is_taken(&self) -> anyhow::Result<bool> {
        match fs::read_dir(&self.directory) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context(self.directory.display().to_string()),
        }
    }

    /// The files that were not fetched yet. The others were hashed as they came, and are again
    /// before they become a model; here it is their length that is looked at.
    pub(super) fn missing_from(&self, staging: &Staging) -> anyhow::Result<Vec<&ManifestFile>> {
        let mut missing = Vec::new();
        for file in &self.manifest.files {
            let path = staging.file(&file.path);
            match length(&path)? {
                None => missing.push(file),
                Some(found) => ensure!(
                    file.bytes.is_none_or(|expected| expected == found),
                    "{}: expected {} bytes, found {found}; remove {} to fetch it again",
                    file.path,
                    file.bytes.unwrap_or_default(),
                    path.display()
                ),
            }
        }
        Ok(missing)
    }
}

fn length(path: &Path) -> anyhow::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(path.display().to_string()),
    }
}
