//! Whether the settings are those that the host launched the guest for.
//!
//! A host may put a digest where the TEE signs it: 32 bytes of HOST_DATA (SEV-SNP ABI specification, 56860,
//! `ATTESTATION_REPORT`), 48 of MRCONFIGID (Intel TDX module, base architecture, `TD_PARAMS`). Zeros bind
//! nothing. Anything else must be the settings', or the machine ends: a verifier that pins the register then
//! knows the settings too.

use sha2::{Digest, Sha256, Sha384};

use crate::error::GuestError;

const HOST_DATA_AT: usize = 192;
const SNP_REPORT_BYTES: usize = 1184;

/// Compares MRCONFIGID with SHA-384 of the settings' text. Gives whether it binds them.
///
/// # Errors
/// Where it binds others.
pub fn mrconfigid(register: &[u8], settings: &[u8]) -> Result<bool, GuestError> {
    if register.len() != 48 {
        return Err(GuestError::Tee { what: "MRCONFIGID is not 48 bytes" });
    }
    bound("MRCONFIGID", register, &Sha384::digest(settings))
}

/// Compares HOST_DATA of a report with SHA-256 of the settings' text. Gives whether it binds them.
///
/// # Errors
/// Where it binds others, or this is no report.
pub fn host_data(report: &[u8], settings: &[u8]) -> Result<bool, GuestError> {
    if report.len() != SNP_REPORT_BYTES {
        return Err(GuestError::Tee { what: "the report is not 1184 bytes" });
    }
    let register = &report[HOST_DATA_AT..HOST_DATA_AT + 32];
    bound("HOST_DATA", register, &Sha256::digest(settings))
}

fn bound(name: &'static str, register: &[u8], digest: &[u8]) -> Result<bool, GuestError> {
    match register.iter().all(|&byte| byte == 0) {
        true => Ok(false),
        false if register == digest => Ok(true),
        false => Err(GuestError::OtherSettings { register: name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_bind_nothing_and_a_digest_binds_one_text() {
        let text = b"queue_capacity = 8\n";
        assert!(!mrconfigid(&[0; 48], text).unwrap());
        assert!(mrconfigid(&Sha384::digest(text), text).unwrap());
        assert!(mrconfigid(&Sha384::digest(b"other"), text).is_err());
        assert!(mrconfigid(&[0; 32], text).is_err());

        let mut report = [7; SNP_REPORT_BYTES];
        assert!(host_data(&report, text).is_err());
        report[192..224].fill(0);
        assert!(!host_data(&report, text).unwrap());
        report[192..224].copy_from_slice(&Sha256::digest(text));
        assert!(host_data(&report, text).unwrap());
        assert!(host_data(&report[..1183], text).is_err());
    }
}
