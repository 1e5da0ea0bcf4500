//! What quotes are verified with, from a disk that the operator writes anew before it ends.
//!
//! It is no secret and nothing is believed because of it: signatures of Intel and AMD are in it. Who writes
//! it can make verification fail, and no more.

use std::{
    fs,
    time::{Duration, Instant},
};

use guest_init::{
    disk::COLLATERAL,
    error::{Attempt, GuestError},
};

use crate::{
    console::say,
    disks,
    mounts::{STATE, own},
};

const EVERY: Duration = Duration::from_secs(300);

/// The disk, where there is one, and when it was read.
pub(crate) struct Collateral {
    disk: Option<String>,
    read_at: Instant,
}

impl Collateral {
    /// Reads the disk, where there is one. A node in a TEE ends without.
    pub(crate) fn start() -> Result<Self, GuestError> {
        let collateral = Self { disk: disks::find(COLLATERAL.serial)?, read_at: Instant::now() };
        collateral.read()?;
        Ok(collateral)
    }

    /// Reads it again, every few minutes. What cannot be read leaves what was read before.
    pub(crate) fn renew(&mut self) {
        if self.read_at.elapsed() < EVERY {
            return;
        }
        self.read_at = Instant::now();
        if let Err(problem) = self.read() {
            say(&problem.to_string());
        }
    }

    fn read(&self) -> Result<(), GuestError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let bytes = fs::File::open(disk).and_then(|disk| COLLATERAL.read(disk)).at(disk)?;
        let text = COLLATERAL.text(&bytes)?;
        // Renamed, so that the node never reads half of it.
        let (new, place) = (format!("{STATE}/collateral.new"), format!("{STATE}/collateral.json"));
        fs::write(&new, text).at(&new)?;
        own(&new)?;
        fs::rename(&new, &place).at(place)
    }
}
