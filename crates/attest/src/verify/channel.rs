//! The connection that a report came over, held against the TLS key that its keyset names.

use super::check::{Checks, TLS_KEY};
use crate::{binding::Digest32, encoding::hex, policy::Need};

/// What a report came over, as the verifier saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// No TLS: plain HTTP, or a file.
    Plain,
    /// TLS, whose handshake the peer signed with this key.
    Tls {
        /// SHA-256 of the peer's SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7).
        spki_sha256: Digest32,
        /// Whether the peer's certificate names the host, and leads to a root that the verifier's
        /// machine trusts: what browsers ask for, and what every gateway has.
        is_publicly_valid: bool,
    },
}

/// A connection that ends at another key than the keyset's ends before the node. Whoever it ends at is
/// either known by a certificate, as gateways are, or somebody in the middle.
pub(super) fn tls_key(channel: &Channel, named: Option<Digest32>, need: Need, checks: &mut Checks) {
    let (spki_sha256, is_publicly_valid) = match *channel {
        Channel::Tls { spki_sha256, is_publicly_valid } => (spki_sha256, is_publicly_valid),
        Channel::Plain => return plain(named, need, checks),
    };
    let found = hex(&spki_sha256);
    let detail = match named {
        Some(named) if named == spki_sha256 => {
            return checks.pass(TLS_KEY, format!("SHA-256 {found}"));
        }
        Some(named) => {
            format!("the keyset names the TLS key {}, the connection ends at {found}", hex(&named))
        }
        None => format!("the keyset names no TLS key, the connection ends at {found}"),
    };
    match (is_publicly_valid, need) {
        (true, Need::Optional) => checks.info(
            TLS_KEY,
            format!("{detail}: whoever has the host's certificate reads what is not sealed"),
        ),
        (true, Need::Required) => {
            checks.fail(TLS_KEY, format!("{detail}: TLS ends before the node"));
        }
        (false, _) => checks.fail(
            TLS_KEY,
            format!("{detail}, whose certificate this machine does not trust either"),
        ),
    }
}

fn plain(named: Option<Digest32>, need: Need, checks: &mut Checks) {
    match (named, need) {
        (_, Need::Required) => checks.fail(TLS_KEY, "the report did not come through TLS"),
        (Some(named), Need::Optional) => {
            let named = hex(&named);
            checks.info(TLS_KEY, format!("SHA-256 {named}; the report did not come through TLS"));
        }
        // Nothing to compare, and nothing was asked.
        (None, Need::Optional) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Outcome;

    const NODE: Digest32 = [1; 32];
    const OTHER: Digest32 = [2; 32];

    fn outcome(channel: Channel, named: Option<Digest32>, need: Need) -> Option<Outcome> {
        let mut checks = Checks::default();
        tls_key(&channel, named, need, &mut checks);
        checks.0.first().map(|check| check.outcome)
    }

    #[test]
    fn every_pair_of_keyset_and_connection() {
        let tls = |spki_sha256, is_publicly_valid| Channel::Tls { spki_sha256, is_publicly_valid };
        let (pass, fail, info) = (Some(Outcome::Pass), Some(Outcome::Fail), Some(Outcome::Info));
        for (channel, named, optional, required) in [
            (tls(NODE, false), Some(NODE), pass, pass),
            (tls(NODE, true), Some(NODE), pass, pass),
            // A gateway that ends TLS, and somebody in the middle.
            (tls(OTHER, true), Some(NODE), info, fail),
            (tls(OTHER, false), Some(NODE), fail, fail),
            (tls(OTHER, true), None, info, fail),
            (tls(OTHER, false), None, fail, fail),
            (Channel::Plain, Some(NODE), info, fail),
            (Channel::Plain, None, None, fail),
        ] {
            let found = outcome(channel, named, Need::Optional);
            assert_eq!(found, optional, "{channel:?}, {named:?}");
            let found = outcome(channel, named, Need::Required);
            assert_eq!(found, required, "{channel:?}, {named:?}, required");
        }
    }

    #[test]
    fn a_refusal_names_both_keys() {
        let mut checks = Checks::default();
        let channel = Channel::Tls { spki_sha256: OTHER, is_publicly_valid: false };
        tls_key(&channel, Some(NODE), Need::Optional, &mut checks);
        let detail = &checks.0[0].detail;
        assert!(detail.contains(&hex(&NODE)) && detail.contains(&hex(&OTHER)), "{detail}");
    }
}
