//! Where images are written.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use protocol::Format;

/// Writes a line of text to standard output, from a command whose peers must not end it by a signal.
#[cfg(feature = "download")]
pub(crate) fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout().lock(), "{line}").context("cannot write to standard output")
}

/// The files that `count` images go to, and their format, known before anything is drawn.
pub(crate) struct Output {
    path: PathBuf,
    format: Format,
}

impl Output {
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let format = Format::of_extension(extension).with_context(|| {
            format!("{}: the ending must be png, jpg, jpeg or webp", path.display())
        })?;
        Ok(Self { path: path.to_owned(), format })
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Writes image `index` and says where it is. An older file of that name is there until all of
    /// the new one is.
    pub(crate) fn write(&self, index: usize, file: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.numbered(index);
        let mut part = path.clone().into_os_string();
        part.push(".part");
        fs::write(&part, file)
            .and_then(|()| fs::rename(&part, &path))
            .inspect_err(|_| drop(fs::remove_file(&part)))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// `fox.png`, `fox-2.png`, `fox-3.png`, …
    fn numbered(&self, index: usize) -> PathBuf {
        if index == 0 {
            return self.path.clone();
        }
        let mut name = OsString::from(self.path.file_stem().unwrap_or_default());
        name.push(format!("-{}.", index + 1));
        name.push(self.path.extension().unwrap_or_default());
        self.path.with_file_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_the_second_image_on() {
        let output = Output::new(Path::new("out/a.fox.JPG")).unwrap();
        assert_eq!(output.format(), Format::JPEG);
        assert_eq!(output.numbered(0), Path::new("out/a.fox.JPG"));
        assert_eq!(output.numbered(1), Path::new("out/a.fox-2.JPG"));
        assert!(Output::new(Path::new("fox")).is_err());
        assert!(Output::new(Path::new("fox.gif")).is_err());
    }
}
