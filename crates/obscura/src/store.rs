//! Known models: their names, and the directories where they lie.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context;
use flux::{Manifest, ManifestError};

/// A model whose manifest this program carries.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    manifest: &'static str,
}

pub(crate) const KNOWN: &[Known] = &[Known {
    name: "flux1-schnell",
    manifest: include_str!("../../../models/flux1-schnell.toml"),
}];

impl Known {
    /// The known model of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }

    /// The known model of this name, to be downloaded.
    ///
    /// # Errors
    /// Where there is none: says what to do with the files of another.
    pub(crate) fn to_download(name: &str) -> anyhow::Result<&'static Self> {
        Self::find(name).with_context(|| {
            format!(
                "{name} cannot be downloaded: its files are not known here, as those of `obscura models list` are. \
                 Get them from their publisher, pin what came with `obscura models pin DIR`, and give --model DIR"
            )
        })
    }

    /// What its publisher says of it.
    pub(crate) fn manifest(&self) -> Result<Manifest, ManifestError> {
        Manifest::parse(self.manifest)
    }
}

/// Where the model of this name lies: below `OBSCURA_MODELS`, or in the user's data directory.
pub(crate) fn directory(name: &str) -> anyhow::Result<PathBuf> {
    let root = match (env::var_os("OBSCURA_MODELS"), env::var_os("XDG_DATA_HOME")) {
        (Some(models), _) => PathBuf::from(models),
        (None, Some(data)) => PathBuf::from(data).join("obscura/models"),
        (None, None) => {
            let home = env::home_dir().context("set OBSCURA_MODELS: there is no home directory")?;
            home.join(".local/share/obscura/models")
        }
    };
    Ok(root.join(name))
}

/// What `models pin` writes and `models check`, `serve` and `generate` look for in a model directory.
pub(crate) const MANIFEST_FILE: &str = "obscura.toml";

/// Reads a manifest file.
pub(crate) fn read_manifest(path: &Path) -> anyhow::Result<Manifest> {
    Manifest::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_downloaded_can_be_pinned() {
        assert!(Known::to_download("flux1-schnell").is_ok());
        let error = Known::to_download("flux2-klein-4b").err().unwrap().to_string();
        for said in
            ["flux2-klein-4b cannot be downloaded", "`obscura models pin DIR`", "--model DIR"]
        {
            assert!(error.contains(said), "{error}");
        }
    }
}
