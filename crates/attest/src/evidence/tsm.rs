//! Quotes through configfs-tsm (Linux ≥ 6.7, `Documentation/ABI/testing/configfs-tsm-report`).
//!
//! A directory under `/sys/kernel/config/tsm/report` is one conversation: 64 bytes into `inblob`, the
//! quote out of `outblob`. `generation` counts what was written, so that a second writer shows.

use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    EvidenceError,
    files::{Disk, Files},
};

/// Where a guest asks for reports: configfs as it is mounted on a real machine.
pub const TSM_REPORTS: &str = "/sys/kernel/config/tsm/report";
/// Quotes with certificates are 5 to 10 KiB.
const MAX_QUOTE_BYTES: usize = 32 * 1024;
const MAX_ATTRIBUTE_BYTES: usize = 256;
/// How often an answer of «busy» is asked again, each time after twice the pause.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Which guest driver must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    Tdx,
    Snp,
}

impl Provider {
    fn name(self) -> &'static str {
        match self {
            Self::Tdx => "tdx_guest",
            Self::Snp => "sev_guest",
        }
    }

    /// Whether these bytes are all of a quote. A TDX quote says how long it is after 632 bytes of
    /// header and report; it may be padded. A SEV-SNP report has one length.
    fn is_whole(self, quote: &[u8]) -> bool {
        match self {
            Self::Snp => quote.len() == 1184,
            Self::Tdx => {
                let at = tdx_length_at(quote);
                let length = quote.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
                let rest = quote.len().saturating_sub(at + 4);
                length.is_some_and(|length| {
                    usize::try_from(u32::from_le_bytes(length)).is_ok_and(|n| 0 < n && n <= rest)
                })
            }
        }
    }
}

/// Version 5 puts type and length of the report before it.
fn tdx_length_at(quote: &[u8]) -> usize {
    match quote {
        [5, 0, ..] => {
            let size = quote.get(50..54).and_then(|bytes| bytes.try_into().ok());
            let size = size.map_or(0, u32::from_le_bytes);
            usize::try_from(size).unwrap_or(usize::MAX).saturating_add(54)
        }
        _ => 48 + 584,
    }
}

/// The kernel's interface.
pub struct Tsm {
    files: Box<dyn Files>,
    root: PathBuf,
    provider: Provider,
    entries: u64,
}

impl Tsm {
    /// Quotes of a TDX guest.
    #[must_use]
    pub fn tdx() -> Self {
        Self::new(Box::new(Disk), Path::new(TSM_REPORTS), Provider::Tdx)
    }

    /// Reports of a SEV-SNP guest.
    #[must_use]
    pub fn snp() -> Self {
        Self::new(Box::new(Disk), Path::new(TSM_REPORTS), Provider::Snp)
    }

    pub(super) fn new(files: Box<dyn Files>, root: &Path, provider: Provider) -> Self {
        Self { files, root: root.to_owned(), provider, entries: 0 }
    }

    /// A quote over these bytes.
    ///
    /// # Errors
    /// Where the kernel has none, or somebody else meddled.
    pub fn quote(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, EvidenceError> {
        let entry = self.entry()?;
        let quote = self.converse(&entry, report_data);
        // One that stays behind costs the kernel a little memory, and the next has another name.
        let _ = self.files.remove_dir(&entry);
        quote
    }

    fn entry(&mut self) -> Result<PathBuf, EvidenceError> {
        loop {
            self.entries += 1;
            let name = format!("obscura-{}-{}", std::process::id(), self.entries);
            let entry = self.root.join(name);
            match self.patiently("an entry cannot be made", |files| files.create_dir(&entry)) {
                Ok(()) => return Ok(entry),
                // A process before us had our id.
                Err(EvidenceError::Io { source, .. })
                    if source.kind() == io::ErrorKind::AlreadyExists && self.entries < 1000 => {}
                Err(EvidenceError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    return Err(EvidenceError::NoTsm { path: self.root.display().to_string() });
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn converse(&self, entry: &Path, report_data: &[u8; 64]) -> Result<Vec<u8>, EvidenceError> {
        let found = self.attribute(entry, "provider")?;
        let expected = self.provider.name();
        if found != expected {
            return Err(EvidenceError::WrongProvider { found, expected });
        }
        let before = self.generation(entry)?;
        self.patiently("the report data cannot be written", |files| {
            files.write(&entry.join("inblob"), report_data)
        })?;
        let quote = self.patiently("the quote cannot be read", |files| {
            files.read(&entry.join("outblob"), MAX_QUOTE_BYTES)
        });
        let quote = match quote {
            Err(EvidenceError::Io { source, .. })
                if source.kind() == io::ErrorKind::FileTooLarge =>
            {
                return Err(EvidenceError::TooLarge { max_bytes: MAX_QUOTE_BYTES });
            }
            quote => quote?,
        };
        if self.generation(entry)? != before.wrapping_add(1) {
            return Err(EvidenceError::Raced);
        }
        if quote.len() > MAX_QUOTE_BYTES {
            return Err(EvidenceError::TooLarge { max_bytes: MAX_QUOTE_BYTES });
        }
        if !self.provider.is_whole(&quote) {
            return Err(EvidenceError::Truncated { bytes: quote.len() });
        }
        Ok(quote)
    }

    fn generation(&self, entry: &Path) -> Result<u64, EvidenceError> {
        self.attribute(entry, "generation")?.parse().map_err(|_| EvidenceError::Raced)
    }

    fn attribute(&self, entry: &Path, name: &str) -> Result<String, EvidenceError> {
        let bytes = self.patiently("an attribute cannot be read", |files| {
            files.read(&entry.join(name), MAX_ATTRIBUTE_BYTES)
        })?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Asks again, a bounded number of times, where the kernel is busy or was interrupted.
    fn patiently<T>(
        &self,
        what: &'static str,
        ask: impl Fn(&dyn Files) -> io::Result<T>,
    ) -> Result<T, EvidenceError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match ask(self.files.as_ref()) {
                Err(error) if is_passing(&error) => thread::sleep(pause),
                answer => return answer.map_err(|source| EvidenceError::Io { what, source }),
            }
            pause *= 2;
        }
        ask(self.files.as_ref()).map_err(|source| EvidenceError::Io { what, source })
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::Interrupted)
}
