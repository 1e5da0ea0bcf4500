//! Binds the settings: compares them with the digest that the host gave at launch, and extends RTMR3.

use std::{fs, io::ErrorKind};

use guest_init::{
    error::{Attempt, GuestError},
    hex,
    host_binding::{host_data, mrconfigid},
    rtmr3::FirstEvent,
};
use sha2::{Digest, Sha256};

use crate::{
    console::say,
    mounts::{STATE, own},
};

const TDX: &str = "/dev/tdx_guest";
const SNP: &str = "/dev/sev-guest";
const MEASUREMENTS: &str = "/sys/devices/virtual/misc/tdx_guest/measurements";
const TSM_REPORTS: &str = "/sys/kernel/config/tsm/report";

/// Checks and extends what the TEE offers. Outside a TEE there is nothing to do: a node that is not told to
/// simulate one ends by itself.
pub(crate) fn bind(settings: &[u8], configuration: &str) -> Result<(), GuestError> {
    if exists(TDX) {
        let register = fs::read(format!("{MEASUREMENTS}/mrconfigid")).at("MRCONFIGID")?;
        said("MRCONFIGID", mrconfigid(&register, settings)?);
        return extend(configuration);
    }
    if exists(SNP) {
        said("HOST_DATA", host_data(&snp_report()?, settings)?);
    }
    Ok(())
}

fn said(register: &str, bound: bool) {
    say(&format!("{register} {}", if bound { "binds the settings" } else { "binds nothing" }));
}

/// Extends RTMR3 with the node's configuration, and leaves the register and its log to the node.
fn extend(configuration: &str) -> Result<(), GuestError> {
    let register = format!("{MEASUREMENTS}/rtmr3:sha384");
    let log = format!("{STATE}/rtmr3.json");
    let digest: [u8; 32] = Sha256::digest(configuration).into();
    let event = FirstEvent::new(&digest);
    fs::write(&register, event.digest).at("RTMR3")?;
    // Had anybody extended it before, the log would not lead to it.
    if fs::read(&register).at("RTMR3")? != event.register {
        return Err(GuestError::Rtmr3);
    }
    fs::write(&log, event.log).at(&log)?;
    say(&format!("RTMR3 holds the configuration {}", hex(&digest)));
    own(&log)?;
    own(&register)
}

/// A report over zeros, for what the host wrote into it (Linux, `configfs-tsm-report`).
fn snp_report() -> Result<Vec<u8>, GuestError> {
    let entry = format!("{TSM_REPORTS}/guest-init");
    match fs::create_dir(&entry) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(GuestError::Tee { what: "the kernel has no configfs-tsm" });
        }
        made => made.at(&entry)?,
    }
    fs::write(format!("{entry}/inblob"), [0; 64]).at("a report")?;
    let report = fs::read(format!("{entry}/outblob")).at("a report");
    let _ = fs::remove_dir(&entry);
    report
}

fn exists(path: &str) -> bool {
    fs::exists(path).unwrap_or(false)
}
