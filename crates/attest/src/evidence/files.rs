//! Files of the kernel, behind a trait that tests implement.

use std::{fs, io, io::Read, path::Path};

pub(super) trait Files: Send {
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// At most `max_bytes` and one more.
    fn read(&self, path: &Path, max_bytes: usize) -> io::Result<Vec<u8>>;
    /// In one call, as the kernel asks for.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// An ordinary file, made where it is missing.
    fn keep(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
}

/// The real ones.
pub(super) struct Disk;

impl Files for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn read(&self, path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
        fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        use io::Write;
        // Not `fs::write`: configfs files are neither created nor truncated.
        fs::OpenOptions::new().write(true).open(path)?.write_all(bytes)
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)
    }
}
