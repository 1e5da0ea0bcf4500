//! The quote: header, TD report, and the chain of signatures behind them (Intel TDX DCAP quoting
//! library API, appendix 3, version 4).

use sha2::{Digest, Sha256, Sha384};

use super::{
    Flaw,
    pki::{self, ATTESTATION, PCK},
};
use crate::event_log::Rtmr;

/// The enclave that signs quotes, as Intel's QE identity names it.
pub(super) const QE_SIGNER: [u8; 32] = *b"SIMULATED - NOT A TEE, QE signer";
pub(super) const QE_PRODUCT: u16 = 2;

const INTEL: [u8; 16] = [
    0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07,
];
const QE_AUTH_DATA: [u8; 32] = [0; 32];
/// SEPT_VE_DISABLE: a host cannot take a page away and give it back unnoticed.
const ATTRIBUTES: u64 = 1 << 28;
const DEBUG: u64 = 1;

pub(super) fn quote(report_data: &[u8; 64], rtmr3: &Rtmr, flaw: Option<Flaw>) -> Vec<u8> {
    let signed = [header(), td_report(report_data, rtmr3, flaw)].concat();
    let qe_report = qe_report();
    let chain = pki::pck_chain();
    let certification = [
        qe_report.as_slice(),
        &PCK.sign(&qe_report),
        &length_16(QE_AUTH_DATA.len()),
        &QE_AUTH_DATA,
        // The type of what follows: PCK certificate chain, PEM.
        &5_u16.to_le_bytes(),
        &length_32(chain.len()),
        chain.as_bytes(),
    ]
    .concat();
    let auth_data = [
        ATTESTATION.sign(&signed).as_slice(),
        &ATTESTATION.public(),
        // The type of what follows: QE report certification data.
        &6_u16.to_le_bytes(),
        &length_32(certification.len()),
        &certification,
    ]
    .concat();
    [signed, length_32(auth_data.len()).to_vec(), auth_data].concat()
}

fn header() -> Vec<u8> {
    let (version, ecdsa_p256, tdx) = (4_u16, 2_u16, 0x81_u32);
    [
        version.to_le_bytes().as_slice(),
        &ecdsa_p256.to_le_bytes(),
        &tdx.to_le_bytes(),
        &[0; 4],
        &INTEL,
        &[0; 20],
    ]
    .concat()
}

fn td_report(report_data: &[u8; 64], rtmr3: &Rtmr, flaw: Option<Flaw>) -> Vec<u8> {
    let attributes = if flaw == Some(Flaw::Debug) { ATTRIBUTES | DEBUG } else { ATTRIBUTES };
    let mrtd = if flaw == Some(Flaw::OtherImage) { "other MRTD" } else { "MRTD" };
    [
        // TEE_TCB_SVN, MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES.
        [0; 16 + 48 + 48 + 8].as_slice(),
        &attributes.to_le_bytes(),
        // XFAM.
        &[0; 8],
        &measurement(mrtd),
        // MRCONFIGID, MROWNER, MROWNERCONFIG.
        &[0; 3 * 48],
        &measurement("RTMR0"),
        &measurement("RTMR1"),
        &measurement("RTMR2"),
        rtmr3,
        report_data,
    ]
    .concat()
}

/// As in `attestation/simulated.toml`.
fn measurement(register: &str) -> Rtmr {
    Sha384::digest(format!("obscura simulated {register}")).into()
}

/// An SGX report of the quoting enclave, which vouches for the attestation key.
fn qe_report() -> Vec<u8> {
    let key = [ATTESTATION.public().as_slice(), &QE_AUTH_DATA].concat();
    [
        // CPUSVN, MISCSELECT, reserved, ATTRIBUTES, MRENCLAVE, reserved.
        [0; 16 + 4 + 28 + 16 + 32 + 32].as_slice(),
        &QE_SIGNER,
        &[0; 96],
        &QE_PRODUCT.to_le_bytes(),
        // ISVSVN, reserved.
        &[0; 2 + 60],
        &Sha256::digest(key),
        &[0; 32],
    ]
    .concat()
}

fn length_16(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("nothing here is longer than 64 KiB").to_le_bytes()
}

fn length_32(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("nothing here is longer than 64 KiB").to_le_bytes()
}
