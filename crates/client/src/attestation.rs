//! Deciding whether to trust a node, before anything is sealed to it.

use attest::{
    Policy,
    binding::Nonce,
    verify::{Appraisal, Challenge, Channel, appraise_over},
};

use crate::{Client, ClientError, NodeKey, Recipient, refused, transport::Transport};

/// A node whose evidence was accepted. There is no way to make one but [`Client::attest`].
#[derive(Debug, Clone)]
pub struct AttestedNode {
    pub(crate) key: NodeKey,
    pub(crate) attested: seal::Attested,
    /// Connections that end where the accepted evidence says.
    pub(crate) transport: Transport,
    appraisal: Appraisal,
}

impl AttestedNode {
    /// What was checked, and what was not.
    pub fn appraisal(&self) -> &Appraisal {
        &self.appraisal
    }

    pub(crate) fn recipient(&self) -> Recipient<'_> {
        let attested = Some(&self.attested);
        Recipient { key: &self.key, attested, transport: &self.transport }
    }
}

/// A node's answer to a challenge, unjudged.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The report, byte for byte as it came.
    pub report: Vec<u8>,
    /// What it was asked with.
    pub challenge: Challenge,
    /// What it came over.
    pub channel: Channel,
}

impl Evidence {
    /// Judges the report, and by it the connection that it came over.
    pub fn appraise(&self, policy: &Policy) -> Appraisal {
        appraise_over(&self.report, policy, &self.challenge, &self.channel)
    }
}

impl Client {
    /// Asks the node for evidence, with a fresh nonce, and judges it.
    ///
    /// With `https://`, nothing secret is sent until then, and the certificate of whoever answers may be
    /// any: where the evidence names the key that the connection ends at, every later connection to the
    /// node must end there; where it does not, the certificate must be one that this machine trusts.
    ///
    /// # Errors
    /// Where the node does not answer, or its evidence is refused.
    pub async fn attest(&self, policy: &Policy) -> Result<AttestedNode, ClientError> {
        let evidence = self.evidence(fresh_nonce()?).await?;
        let appraisal = evidence.appraise(policy);
        let Some(accepted) = appraisal.attested() else {
            return Err(ClientError::Untrusted { appraisal: Box::new(appraisal) });
        };
        let key = NodeKey { encryption_key: accepted.exchange_key, stack_small_id: 0 };
        let attested = seal::Attested {
            signing_key: accepted.signing_key,
            keyset_digest: accepted.keyset_digest,
            model_manifest: accepted.model_manifest,
        };
        let transport = match (evidence.channel, accepted.tls_spki_sha256) {
            (Channel::Tls { spki_sha256, .. }, Some(named)) if named == spki_sha256 => {
                self.http.pinned(named)?
            }
            _ => self.http.transport().clone(),
        };
        Ok(AttestedNode { key, attested, transport, appraisal })
    }

    /// Asks the node for evidence, and judges nothing: with `https://`, not even whose certificate it is.
    ///
    /// # Errors
    /// Where the node does not answer, or at more length than any report.
    pub async fn evidence(&self, nonce: Nonce) -> Result<Evidence, ClientError> {
        let path = format!("/v1/attestation?nonce={nonce}");
        let (answer, channel) = self.http.get_public(&path, attest::MAX_REPORT_BYTES).await?;
        let status = answer.status();
        if status != 200 {
            return Err(refused(status, &answer.refusal().await?));
        }
        let report = answer.json_body().await?;
        let challenge = Challenge { nonce, now_secs: now_secs() };
        Ok(Evidence { report, challenge, channel })
    }
}

/// A nonce from the operating system.
///
/// # Errors
/// Where the system gives no randomness.
pub fn fresh_nonce() -> Result<Nonce, ClientError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| ClientError::Randomness)?;
    Nonce::new(bytes).map_err(|_| ClientError::Randomness)
}

/// Seconds since 1970. A clock that is wrong makes good evidence bad, and hardly the other way round:
/// certificates, collateral and keysets all end.
fn now_secs() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
