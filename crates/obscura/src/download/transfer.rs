//! One file: fetched, taken up again where it was cut, hashed as it lands.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use flux::{FileDigest, ManifestFile};
use futures_util::{StreamExt, pin_mut};
use hf_hub::HFError;
use indicatif::ProgressBar;
use printable::Printable;
use sha2::{Digest, Sha256};

use super::hub::{Commit, Hub, Listed};
use crate::output;

/// A file that is asked for, and what must come.
pub(super) struct Expected {
    pub(super) path: String,
    pub(super) bytes: u64,
    sha256: Option<FileDigest>,
}

/// How often in a row a transfer may end without a byte more. hf-hub itself tries again where a
/// connection cannot be made or the server is busy, and does not where a transfer is cut.
const BARREN_TRIES: u32 = 4;

/// A transfer is taken up this far before its end, and these bytes must come as they came before.
/// hf-hub does not tell an answer of the asked range from one of the whole file.
const OVERLAP_BYTES: u64 = 4096;

/// What to do about a file that is not as expected. It is never done unasked.
const REMEDY: &str = "remove it to fetch it again";

impl Expected {
    /// What the manifest says of a file; its length, where the manifest is silent, from the hub.
    ///
    /// # Errors
    /// Where the two contradict each other.
    pub(super) fn new(wanted: &ManifestFile, listed: &[Listed]) -> anyhow::Result<Self> {
        let path = wanted.path.clone();
        let listed = listed.iter().find(|file| file.path == path);
        let listed = listed.with_context(|| format!("the hub does not list {path}"))?;
        if let Some(expected) = wanted.bytes {
            let found = listed.bytes;
            ensure!(expected == found, "{path}: expected {expected} bytes, the hub has {found}");
        }
        Ok(Self { path, bytes: listed.bytes, sha256: wanted.sha256 })
    }

    fn shown(&self) -> String {
        format!("{} bytes of {}", self.bytes, Printable::new(&self.path))
    }
}

/// Fetches what is missing of a file. What is at `part` stays there, whatever happens.
pub(super) async fn fetch(
    hub: &Hub,
    commit: &Commit,
    file: &Expected,
    part: &Path,
    bar: &ProgressBar,
) -> anyhow::Result<FileDigest> {
    let mut part = Part::open(part, bar).with_context(|| part.display().to_string())?;
    let mut overlap_bytes = OVERLAP_BYTES;
    let mut barren_tries = 0;
    while part.bytes < file.bytes {
        let before = part.bytes;
        let from = before.saturating_sub(overlap_bytes);
        let ended = append(hub, commit, file, &mut part, from, bar).await;
        barren_tries = if part.bytes > before { 0 } else { barren_tries + 1 };
        let is_last = barren_tries == BARREN_TRIES;
        match ended {
            Ok(()) if part.bytes >= file.bytes => break,
            Ok(()) if is_last => bail!("the hub sends {} of {}", part.bytes, file.shown()),
            Err(Cut::Hub(error)) if is_last || !is_passing(&error) => {
                let error = hub.explained(error, commit.as_str());
                return Err(error.context(format!("{} of {}", part.bytes, file.shown())));
            }
            // Not the range that was asked for. Perhaps the whole file: then its beginning is known.
            Err(Cut::Differs) if from > 0 => overlap_bytes = u64::MAX,
            Err(Cut::Differs) => bail!(
                "{}: the hub sends other bytes than those that came before; they are kept as {}: \
                 {REMEDY}",
                file.path,
                part.path.display()
            ),
            Err(Cut::Disk(error)) => {
                return Err(error).with_context(|| part.path.display().to_string());
            }
            Ok(()) | Err(Cut::Hub(_)) => {}
        }
        let (bytes, shown) = (part.bytes, file.shown());
        bar.suspend(|| {
            output::note(format_args!("note: {bytes} of {shown} so far; asking again"));
        });
        tokio::time::sleep(Duration::from_millis(250) * (1 << barren_tries)).await;
    }
    part.checked(file)
}

/// Why a transfer ended before its time.
enum Cut {
    Hub(HFError),
    /// What is there already came again, and not as before.
    Differs,
    Disk(io::Error),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// One request, for everything behind `from`, which is not behind the end of `part`.
async fn append(
    hub: &Hub,
    commit: &Commit,
    file: &Expected,
    part: &mut Part,
    from: u64,
    bar: &ProgressBar,
) -> Result<(), Cut> {
    let range = (from > 0).then_some(from..file.bytes);
    let bytes = hub.stream(commit, &file.path, range).await.map_err(Cut::Hub)?;
    pin_mut!(bytes);
    let mut at = from;
    // No more than one chunk beyond its length: that is enough to be refused.
    while at <= file.bytes
        && let Some(chunk) = bytes.next().await
    {
        let chunk = chunk.map_err(Cut::Hub)?;
        let chunk = chunk.as_ref();
        let known_bytes = (part.bytes - at).min(chunk.len() as u64);
        let (known, new) = chunk.split_at(known_bytes as usize);
        if part.read(at, known.len())? != known {
            return Err(Cut::Differs);
        }
        part.append(new)?;
        at += chunk.len() as u64;
        bar.inc(new.len() as u64);
    }
    Ok(())
}

/// Whether asking again may help.
fn is_passing(error: &HFError) -> bool {
    match error {
        HFError::Request { .. } | HFError::Xet { .. } | HFError::RateLimited { .. } => true,
        HFError::Http { context } => context.status.is_server_error(),
        _ => false,
    }
}

/// The beginning of a file, and its hash so far.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
    hash: Sha256,
}

impl Part {
    /// Reads what is there from an earlier time.
    fn open(path: &Path, bar: &ProgressBar) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let (mut bytes, mut hash) = (0, Sha256::new());
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(Self { path: path.to_owned(), file, bytes, hash });
            }
            hash.update(&buffer[..read]);
            bytes += read as u64;
            bar.inc(read as u64);
        }
    }

    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        self.file.read_exact_at(&mut read, at)?;
        Ok(read)
    }

    fn append(&mut self, new: &[u8]) -> io::Result<()> {
        self.file.write_all_at(new, self.bytes)?;
        self.hash.update(new);
        self.bytes += new.len() as u64;
        Ok(())
    }

    /// On disk, and as expected.
    fn checked(mut self, expected: &Expected) -> anyhow::Result<FileDigest> {
        self.file.flush().and_then(|()| self.file.sync_all())?;
        let found = FileDigest(self.hash.finalize().into());
        let (name, kept) = (&expected.path, self.path.display());
        ensure!(
            self.bytes == expected.bytes,
            "{name}: expected {} bytes, found {}; kept as {kept}: {REMEDY}",
            expected.bytes,
            self.bytes
        );
        if let Some(expected) = expected.sha256 {
            ensure!(
                expected == found,
                "{name}: expected SHA-256 {expected}, found {found}; kept as {kept}: {REMEDY}"
            );
        }
        Ok(found)
    }
}
