//! Where a download lies until it is a model.
//!
//! Beside the model directory `DIR`, and so on the same file system:
//! ```text
//! DIR.download/COMMIT/files/   fetched in full and as expected
//! DIR.download/COMMIT/parts/   under way, cut, or refused
//! ```

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use super::hub::Commit;

/// One commit's download, held by this process alone.
pub(super) struct Staging {
    /// `DIR.download`.
    root: PathBuf,
    /// `DIR.download/COMMIT`.
    own: PathBuf,
    files: PathBuf,
    parts: PathBuf,
    /// On the commit's directory. Goes with the process, whichever way that ends.
    _lock: File,
}

impl Staging {
    pub(super) fn open(directory: &Path, commit: &Commit) -> anyhow::Result<Self> {
        let name = directory.file_name().context("--dir must end in the directory's own name")?;
        let mut root = name.to_owned();
        root.push(".download");
        let root = directory.with_file_name(root);
        let own = root.join(commit.as_str());
        let (files, parts) = (own.join("files"), own.join("parts"));
        for directory in [&files, &parts] {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let lock = File::open(&own).with_context(|| own.display().to_string())?;
        ensure!(lock.try_lock().is_ok(), "another download works in {}", own.display());
        Ok(Self { root, own, files, parts, _lock: lock })
    }

    /// The directory that becomes the model.
    pub(super) fn files(&self) -> &Path {
        &self.files
    }

    /// Where a file of the manifest lies once it is as expected.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.files.join(path)
    }

    /// Where it lies before.
    pub(super) fn part(&self, path: &str) -> PathBuf {
        self.parts.join(path)
    }

    /// A part is whole and as expected.
    pub(super) fn keep(&self, path: &str) -> anyhow::Result<()> {
        let (from, to) = (self.part(path), self.file(path));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(&from, &to).with_context(|| format!("cannot move {}", from.display()))
    }

    /// All files are there: they are the model from here on.
    pub(super) fn install(self, directory: &Path) -> anyhow::Result<()> {
        fs::rename(&self.files, directory)
            .with_context(|| format!("cannot move the files to {}", directory.display()))?;
        // The model is there; what is left over here does not change that.
        let _ = fs::remove_dir_all(&self.parts);
        Ok(())
    }
}

impl Drop for Staging {
    /// Leaves no directory behind that holds nothing. Those that hold something cannot be removed.
    fn drop(&mut self) {
        for directory in [&self.files, &self.parts, &self.own, &self.root] {
            let _ = fs::remove_dir(directory);
        }
    }
}
