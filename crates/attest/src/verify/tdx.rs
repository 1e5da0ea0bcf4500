//! Intel TDX quotes, and simulated ones, which differ in nothing but the root they lead to.
//!
//! `dcap-qvl` verifies signatures, chains, revocation lists, dates and the platform's level, and
//! refuses reserved attribute bits, migration and guests whose pages a host may swap under them.
//! What its policies decide, and what it does not look at (debugging, measurements, report data), is
//! decided here, a check each.

use dcap_qvl::{
    QuoteClaims, QuoteCollateralV3, QuotePolicy,
    quote::{AuthData, AuthDataV4, CertificationData, Quote, TDReport10},
    verify::QuoteVerifier,
};

use super::{
    Challenge,
    check::{Checks, SIMULATED_QUOTE, TDX_ATTRIBUTES, TDX_HARDWARE, TDX_QUOTE, TDX_RTMR3},
    common::{one_of, without_padding},
    tdx_release, tdx_tcb,
};
use crate::{
    binding::sha256,
    encoding::hex,
    event_log::{EventLog, MODEL_EVENT},
    platform::Platform,
    policy::{Hex, Need, Rules, TdxRules},
    report::Report,
    roots,
};

/// What a quote's certification data must say it is: a report of the quoting enclave, and who vouches
/// for it.
const QE_REPORT_CERTIFICATION: u16 = 6;

/// Verifies the quote; gives the report data that it signs.
pub(super) fn quote(
    report: &Report,
    challenge: &Challenge,
    rules: &Rules,
    checks: &mut Checks,
) -> Option<[u8; 64]> {
    let before = checks.0.len();
    let report_data = signed(report, challenge, rules, checks);
    if report.platform == Platform::Simulated {
        // What a simulated guest says of itself proves nothing.
        for check in checks.0.iter_mut().skip(before) {
            check
                .detail
                .insert_str(0, if check.detail.is_empty() { "made up" } else { "made up: " });
        }
    }
    report_data
}

fn signed(
    report: &Report,
    challenge: &Challenge,
    rules: &Rules,
    checks: &mut Checks,
) -> Option<[u8; 64]> {
    let signature = match report.platform {
        Platform::Simulated => SIMULATED_QUOTE,
        _ => TDX_QUOTE,
    };
    let Some(root) = root(report.platform) else {
        checks.fail(signature, "this build knows no root that simulated quotes lead to");
        return None;
    };
    let claims = match claims(report, challenge, root) {
        Ok(claims) => claims,
        Err(refusal) => {
            checks.fail(signature, refusal);
            return None;
        }
    };
    let Some(td) = claims.report.as_td10() else {
        checks.fail(signature, "a quote of an SGX enclave, not of a TDX guest");
        return None;
    };
    let fmspc = hex(&claims.platform.pck.fmspc);
    checks.pass(signature, format!("version {}, FMSPC {fmspc}", claims.header.version));
    attributes(td, checks);
    tdx_tcb::dates(&claims, challenge.now_secs, checks);
    tdx_tcb::appraise(&claims, &rules.tdx, checks);
    tdx_release::appraise(td, &rules.tdx, checks);
    rtmr3(report, td, &rules.tdx, checks);
    hardware(&claims, &rules.tdx, checks);
    Some(td.report_data)
}

/// Simulated quotes have a root in builds that can make them, and in no other.
fn root(platform: Platform) -> Option<Vec<u8>> {
    match platform {
        Platform::Tdx => Some(roots::INTEL.to_vec()),
        #[cfg(feature = "simulator")]
        Platform::Simulated => Some(crate::simulator::root()),
        _ => None,
    }
}

/// What is wrong with a file that is no collateral for TDX, where it is a thing that people have.
pub(crate) fn why_not_tdx(file: &[u8]) -> &'static str {
    match serde_json::from_slice::<serde_json::Value>(file) {
        Ok(json) if json.get("tcbInfo").is_some() || json.get("enclaveIdentity").is_some() => {
            "the collateral is one answer of Intel's PCS, and not all of them: `obscura collateral fetch` makes the file"
        }
        Ok(json) if json.get("vcek").is_some() => "the collateral is that of SEV-SNP",
        _ => "the collateral is not the JSON object it should be",
    }
}

fn claims(report: &Report, challenge: &Challenge, root: Vec<u8>) -> Result<QuoteClaims, String> {
    let collateral: QuoteCollateralV3 = serde_json::from_slice(&report.collateral)
        .map_err(|_| why_not_tdx(&report.collateral).to_owned())?;
    let quote = without_surplus(&report.quote)?;
    QuoteVerifier::new(root)
        // Debugging has a check of its own.
        .allow_debug(true)
        .verify_with_policy(
            quote,
            collateral,
            challenge.now_secs,
            &QuotePolicy::claims_only(challenge.now_secs),
        )
        .map_err(|refusal| format!("{refusal:#}"))
}

/// A quote without what pads it. Lengths that no signature covers must fit what they enclose, and only
/// zeros may follow the end: dcap-qvl does not ask for what is left over, neither inside nor after.
fn without_surplus(bytes: &[u8]) -> Result<&[u8], String> {
    let quote = Quote::parse(bytes).map_err(|_| "the quote cannot be read".to_owned())?;
    let AuthData::V4(data) = &quote.auth_data else {
        // Version 3 is of enclaves, which are refused below.
        return Ok(bytes);
    };
    let certification = certification(data)?;
    let read = data.ecdsa_signature.len() + data.ecdsa_attestation_key.len() + 6 + certification;
    let signed = quote.signed_length();
    let (said, rest) = bytes
        .get(signed..)
        .and_then(|rest| rest.split_first_chunk())
        .ok_or("the quote ends early")?;
    if usize::try_from(u32::from_le_bytes(*said)) != Ok(read) {
        return Err(format!("signature data of other than {read} bytes"));
    }
    let surplus = without_padding(rest.get(read..).ok_or("the quote ends early")?);
    match surplus.is_empty() {
        true => Ok(&bytes[..signed + 4 + read]),
        false => Err(format!("{} bytes follow the quote's end", surplus.len())),
    }
}

/// No signature covers what certification data says of its type and its lengths; dcap-qvl reads one
/// type, whatever it says it is. Gives how many bytes there are.
fn certification(data: &AuthDataV4) -> Result<usize, String> {
    let CertificationData { cert_type, body } = &data.certification_data;
    if *cert_type != QE_REPORT_CERTIFICATION {
        return Err(format!("certification data of type {cert_type}"));
    }
    let inner = &data.qe_report_data;
    let read = inner.qe_report.len()
        + inner.qe_report_signature.len()
        + 2
        + inner.qe_auth_data.data.len()
        + 6
        + inner.certification_data.body.data.len();
    match body.data.len() == read {
        true => Ok(read),
        false => Err(format!("certification data of {} bytes, {read} read", body.data.len())),
    }
}

/// Bits 0 to 7 of TDATTRIBUTES: «If any of the bits in this group are set to 1, the TD is untrusted»
/// (Intel TDX module, base architecture, TDATTRIBUTES.TUD).
fn attributes(td: &TDReport10, checks: &mut Checks) {
    let [under_debug, ..] = td.td_attributes;
    let detail = format!("TDATTRIBUTES {}", hex(&td.td_attributes));
    checks.expect(TDX_ATTRIBUTES, under_debug == 0, detail);
}

/// A log that is there must replay. Whether one must be there is for the policy to say.
fn rtmr3(report: &Report, td: &TDReport10, rules: &TdxRules, checks: &mut Checks) {
    let Some(&need) = checks.rule(TDX_RTMR3, &rules.rtmr3_model_event) else { return };
    if report.event_log.is_empty() && td.rt_mr3 == [0; 48] && need == Need::Optional {
        return checks.skip(TDX_RTMR3, "nothing was extended; the policy takes that");
    }
    let log = match EventLog::parse(&report.event_log) {
        Ok(log) => log,
        Err(error) => return checks.fail(TDX_RTMR3, error.to_string()),
    };
    let register = hex(&td.rt_mr3);
    if log.replay() != td.rt_mr3 {
        return checks.fail(TDX_RTMR3, format!("the log does not lead to RTMR3 {register}"));
    }
    let manifest = hex(&sha256(&report.model_manifest));
    let models: Vec<_> = log.payloads(MODEL_EVENT).collect();
    let one_model = models == [manifest.as_str()];
    let detail = format!("RTMR3 {register}, {} model(s)", models.len());
    checks.expect(TDX_RTMR3, one_model, detail);
}

fn hardware(claims: &QuoteClaims, rules: &TdxRules, checks: &mut Checks) {
    let ppid = &claims.platform.pck.ppid;
    let Ok(id) = <[u8; 16]>::try_from(ppid.as_slice()) else {
        return checks.fail(TDX_HARDWARE, "the platform's id is not 16 bytes");
    };
    one_of(TDX_HARDWARE, &rules.hardware, &Hex(id), &format!("PPID {}", hex(ppid)), checks);
}
