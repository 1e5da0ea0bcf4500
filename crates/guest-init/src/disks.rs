//! Virtio disks, by the serial that the host gave them. Which disk is which decides nothing: each is held
//! against a tree, or has one form.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use guest_init::error::{Attempt, GuestError};

const BLOCK: &str = "/sys/block";
const TIMEOUT: Duration = Duration::from_secs(30);
/// More disks than any guest of ours has; a host that plugs in more is not listened to.
const MAX_DISKS: usize = 64;

/// Waits until one disk has this serial. Gives its path.
pub(crate) fn wait_for(serial: &'static str) -> Result<String, GuestError> {
    let started = Instant::now();
    loop {
        if let Some(disk) = find(serial)? {
            return Ok(disk);
        }
        if started.elapsed() > TIMEOUT {
            return Err(GuestError::NoDisk { serial });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The disk with this serial, if it is there.
pub(crate) fn find(serial: &'static str) -> Result<Option<String>, GuestError> {
    let mut found = None;
    for entry in fs::read_dir(BLOCK).at(BLOCK)?.take(MAX_DISKS) {
        let entry = entry.at(BLOCK)?;
        // Other disks have none.
        let own = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if own.trim_end() == serial {
            let disk = format!("/dev/{}", entry.file_name().to_string_lossy());
            if found.replace(disk).is_some() {
                return Err(GuestError::TwoDisks { serial });
            }
        }
    }
    Ok(found.filter(|disk| fs::exists(disk).unwrap_or(false)))
}
