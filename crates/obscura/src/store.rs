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
