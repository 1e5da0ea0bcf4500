//! Checks that every platform shares.

use super::{
    Challenge,
    check::{
        CONFIGURATION_DIGEST, CheckId, Checks, KEYSET_BUILD, KEYSET_FORMAT, KEYSET_LIFETIME,
        KEYSET_POSSESSION, KEYSET_VALID_NOW, MODEL_MANIFEST, NONCE_FRESH, NONCE_PATH,
        PLATFORM_ALLOWED, REPORT_DATA,
    },
};
use crate::{
    binding::{Bound, Digest32, KeysetBody, Nonce, possession_holds, sha256},
    encoding::hex,
    policy::{Allow, ConfigurationRules, Hex, KeysetRules, Need, Permit, PlatformName, Rules},
    report::Report,
};

/// The keys that a keyset names.
pub(super) struct Keys {
    pub(super) exchange: [u8; 32],
    pub(super) signing: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo that TLS ends at, where it ends in the node.
    pub(super) tls: Option<Digest32>,
    /// SHA-256 of the SubjectPublicKeyInfo that manifests of images are signed by, where there are any.
    pub(super) c2pa: Option<Digest32>,
    /// Seconds since 1970 until which they serve.
    pub(super) not_after_secs: u64,
}

impl Keys {
    fn of(body: &KeysetBody) -> Option<Self> {
        let (tls, c2pa) = (body.tls_key(), body.c2pa_key());
        // What is named and is no digest is a mistake, and not the same as nothing.
        let malformed = body.configuration_sha256.is_some() && body.configuration().is_none()
            || body.tls_spki_sha256.is_some() && tls.is_none()
            || body.c2pa_spki_sha256.is_some() && c2pa.is_none();
        if malformed {
            return None;
        }
        let (exchange, signing) = (body.exchange_key()?, body.signing_key()?);
        Some(Self { exchange, signing, tls, c2pa, not_after_secs: body.not_after })
    }
}

pub(super) fn platform(report: &Report, rules: &Rules, checks: &mut Checks) {
    if let Some(allowed) = checks.rule(PLATFORM_ALLOWED, &rules.platforms) {
        let holds = allowed.contains(&PlatformName(report.platform));
        checks.expect(PLATFORM_ALLOWED, holds, report.platform.to_string());
    }
}

/// That the report binds this nonce is for [`binding`] to show; here it is only whose nonce it is.
pub(super) fn nonce(challenge: &Challenge, rules: &Rules, checks: &mut Checks) {
    match (challenge.nonce == Nonce::ABSENT, checks.rule(NONCE_FRESH, &rules.fresh_nonce)) {
        (_, None) => {}
        (false, Some(_)) => checks.pass(NONCE_FRESH, ""),
        (true, Some(Need::Required)) => {
            checks.fail(NONCE_FRESH, "no nonce was sent: the report may be of any age");
        }
        (true, Some(Need::Optional)) => {
            checks.skip(NONCE_FRESH, "no nonce was sent: the report may be of any age");
        }
    }
}

pub(super) fn keyset(
    report: &Report,
    challenge: &Challenge,
    rules: &Rules,
    checks: &mut Checks,
) -> Option<Keys> {
    let body = serde_json::from_slice::<KeysetBody>(&report.keyset).ok();
    let keys = body.as_ref().and_then(Keys::of);
    let (Some(body), Some(keys)) = (body, keys) else {
        checks.fail(KEYSET_FORMAT, "not the JSON object it should be");
        return None;
    };
    checks.pass(KEYSET_FORMAT, format!("key {}, epoch {}", body.key_id, body.epoch));
    let holds = possession_holds(&report.keyset, &keys.signing, &report.possession);
    checks.expect(KEYSET_POSSESSION, holds, format!("Ed25519 key {}", hex(&keys.signing)));
    validity(&body, challenge, &rules.keyset, checks);
    one_of(KEYSET_BUILD, &rules.keyset.builds, &body.build_id, &body.build_id, checks);
    configuration(&body, &rules.configuration, checks);
    Some(keys)
}

/// What a keyset does not tell is not trusted, unless the policy takes any.
fn configuration(body: &KeysetBody, rules: &ConfigurationRules, checks: &mut Checks) {
    let (digest, found) = match body.configuration() {
        Some(digest) => (Some(Hex(digest)), format!("SHA-256 {}", Hex(digest))),
        None => (None, "the keyset does not tell it".to_owned()),
    };
    match checks.rule(CONFIGURATION_DIGEST, &rules.digests) {
        None => {}
        Some(Allow::Any) => {
            checks.skip(CONFIGURATION_DIGEST, format!("{found}; the policy takes any"))
        }
        Some(Allow::Only(list)) => {
            let holds = digest.is_some_and(|digest| list.contains(&digest));
            checks.expect(CONFIGURATION_DIGEST, holds, found);
        }
    }
}

fn validity(body: &KeysetBody, challenge: &Challenge, rules: &KeysetRules, checks: &mut Checks) {
    let KeysetBody { not_before, not_after, .. } = *body;
    let now = challenge.now_secs;
    let detail = format!("from {not_before} to {not_after}, now {now}");
    checks.expect(KEYSET_VALID_NOW, not_before <= now && now <= not_after, detail);
    if let Some(&max) = checks.rule(KEYSET_LIFETIME, &rules.max_lifetime_secs) {
        let lifetime = not_after.saturating_sub(not_before);
        checks.expect(KEYSET_LIFETIME, lifetime <= max, format!("{lifetime} s of {max} s"));
    }
}

pub(super) fn model(report: &Report, rules: &Rules, checks: &mut Checks) {
    let digest = Hex(sha256(&report.model_manifest));
    let found = format!("SHA-256 {digest}");
    one_of(MODEL_MANIFEST, &rules.model.manifests, &digest, &found, checks);
}

/// Where the nonce lies among those that one quote answers.
pub(super) fn nonce_path(report: &Report, challenge: &Challenge, checks: &mut Checks) {
    match report.nonce_path.root(challenge.nonce) {
        Some(_) => {
            let steps = report.nonce_path.siblings.len();
            checks.pass(NONCE_PATH, format!("{steps} steps to the root"));
        }
        None => checks.fail(NONCE_PATH, "the nonce's place is outside the tree"),
    }
}

/// The path leads from the verifier's own nonce, never from the one that the report names.
pub(super) fn binding(
    report: &Report,
    challenge: &Challenge,
    report_data: Option<&[u8; 64]>,
    checks: &mut Checks,
) {
    let Some(nonce_root) = report.nonce_path.root(challenge.nonce) else {
        return checks.fail(REPORT_DATA, "the nonce leads to no root");
    };
    let expected = Bound {
        nonce_root,
        keyset: sha256(&report.keyset),
        model_manifest: sha256(&report.model_manifest),
        device_evidence: &report.device_evidence,
    }
    .report_data();
    match report_data {
        Some(found) if *found == expected => checks.pass(REPORT_DATA, ""),
        Some(_) => checks.fail(REPORT_DATA, "the quote was made for something else"),
        None => checks.skip(REPORT_DATA, "no quote was verified"),
    }
}

/// A value against an allow-list; `found` is how it reads.
pub(super) fn one_of<T: PartialEq>(
    check: CheckId,
    rule: &Option<Allow<T>>,
    value: &T,
    found: &str,
    checks: &mut Checks,
) {
    match checks.rule(check, rule) {
        None => {}
        Some(Allow::Any) => checks.skip(check, format!("{found}; the policy takes any")),
        Some(Allow::Only(list)) => checks.expect(check, list.contains(value), found),
    }
}

/// The same, of bytes that read as hexadecimal digits.
pub(super) fn one_hex<const N: usize>(
    check: CheckId,
    rule: &Option<Allow<Hex<N>>>,
    value: [u8; N],
    checks: &mut Checks,
) {
    one_of(check, rule, &Hex(value), &hex(&value), checks);
}

/// A property that a policy may permit.
pub(super) fn permitted(check: CheckId, rule: &Option<Permit>, found: bool, checks: &mut Checks) {
    if let Some(&rule) = checks.rule(check, rule) {
        let state = if found { "on" } else { "off" };
        checks.expect(check, !found || rule == Permit::Allow, state);
    }
}

/// Bytes without the zeros at their end: what drivers pad their buffers with. This is the one kind of
/// surplus that is borne, and only where a driver's buffer travels as it is: quotes, reports, and chains in
/// PEM.
pub(super) fn without_padding(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// The first `length` bytes, where nothing but such padding follows them. They may end with zeros of their
/// own, as signatures do.
pub(super) fn before_padding(bytes: &[u8], length: usize) -> Option<&[u8]> {
    let (whole, padding) = bytes.split_at_checked(length)?;
    without_padding(padding).is_empty().then_some(whole)
}
