//! What Intel would publish of a simulated platform.

use serde_json::json;

use super::{
    Flaw,
    der::rfc3339,
    pki::{self, FMSPC, LIFETIME_SECS, PCK, PCK_CA, ROOT, TCB},
    quote,
};
use crate::encoding::hex;

/// Clocks differ.
const SLACK_SECS: u64 = 3600;

/// The collateral, in the JSON form that other verifiers read too.
pub(super) fn json(now_secs: u64, flaw: Option<Flaw>) -> Vec<u8> {
    let from = now_secs.saturating_sub(SLACK_SECS);
    let revoked: &[_] = if flaw == Some(Flaw::Revoked) { &[PCK] } else { &[] };
    let tcb_info = tcb_info(from, flaw);
    let qe_identity = qe_identity(from);
    let collateral = json!({
        "pck_crl_issuer_chain": pki::pck_ca_chain(),
        "root_ca_crl": hex(&pki::crl(ROOT, from, &[])),
        "pck_crl": hex(&pki::crl(PCK_CA, from, revoked)),
        "tcb_info_issuer_chain": pki::tcb_chain(),
        "tcb_info_signature": hex(&TCB.sign(tcb_info.as_bytes())),
        "tcb_info": tcb_info,
        "qe_identity_issuer_chain": pki::tcb_chain(),
        "qe_identity_signature": hex(&TCB.sign(qe_identity.as_bytes())),
        "qe_identity": qe_identity,
    });
    collateral.to_string().into_bytes()
}

fn tcb_info(from: u64, flaw: Option<Flaw>) -> String {
    let level = |svn: u8, status: &str| {
        let components = vec![json!({ "svn": svn }); 16];
        json!({
            "tcb": {
                "sgxtcbcomponents": components,
                "pcesvn": 0,
                "tdxtcbcomponents": components,
            },
            "tcbDate": rfc3339(from),
            "tcbStatus": status,
        })
    };
    let levels = match flaw {
        Some(Flaw::OutOfDate) => vec![level(1, "UpToDate"), level(0, "OutOfDate")],
        _ => vec![level(0, "UpToDate")],
    };
    json!({
        "id": "TDX",
        "version": 3,
        "issueDate": rfc3339(from),
        "nextUpdate": rfc3339(from + LIFETIME_SECS),
        "fmspc": hex(&FMSPC),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 1,
        "tdxModule": {
            "mrsigner": "0".repeat(96),
            "attributes": "0".repeat(16),
            "attributesMask": "F".repeat(16),
        },
        "tcbLevels": levels,
    })
    .to_string()
}

fn qe_identity(from: u64) -> String {
    json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": rfc3339(from),
        "nextUpdate": rfc3339(from + LIFETIME_SECS),
        "tcbEvaluationDataNumber": 1,
        "miscselect": "0".repeat(8),
        "miscselectMask": "F".repeat(8),
        "attributes": "0".repeat(32),
        "attributesMask": "F".repeat(32),
        "mrsigner": hex(&quote::QE_SIGNER),
        "isvprodid": quote::QE_PRODUCT,
        "tcbLevels": [{
            "tcb": { "isvsvn": 0 },
            "tcbDate": rfc3339(from),
            "tcbStatus": "UpToDate",
        }],
    })
    .to_string()
}
