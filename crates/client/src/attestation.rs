//! Deciding whether to trust a node, before anything is sealed to it.

use attest::{
    Policy,
    binding::Nonce,
    verify::{Appraisal, Attested, Challenge, Channel},
};

use crate::{
    Client, ClientError, Evidence, HttpError, NodeKey, Recipient, refused, transport::Transport,
};

/// A node whose evidence was accepted. There is no way to make one but [`Client::attest`].
#[derive(Debug, Clone)]
pub struct AttestedNode {
    pub(crate) key: NodeKey,
    pub(crate) attested: seal::Attested,
    /// Connections that end where the accepted evidence says.
    pub(crate) transport: Transport,
    appraisal: Appraisal,
    evidence: Evidence,
    not_after_secs: u64,
}

impl AttestedNode {
    /// What was checked, and what was not.
    pub fn appraisal(&self) -> &Appraisal {
        &self.appraisal
    }

    /// What was judged: the report byte for byte, its nonce, its time, its connection.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Seconds since 1970 until which its keys may be relied on. Nothing is sent afterwards.
    pub fn not_after_secs(&self) -> u64 {
        self.not_after_secs
    }

    /// The key that requests are sealed to, and the billing stack that they name.
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// SHA-256 of the manifest of the model that the node answers with.
    pub fn model_manifest(&self) -> &[u8; 32] {
        &self.attested.model_manifest
    }

    /// The same node behind a proxy that bills by this stack, as [`Client::lock`] tells it.
    #[must_use]
    pub fn with_stack(self, stack_small_id: u64) -> Self {
        Self { key: NodeKey { stack_small_id, ..self.key }, ..self }
    }

    /// Evidence that was good is not good for ever.
    pub(crate) fn check_time(&self) -> Result<(), ClientError> {
        match now_secs() > self.not_after_secs {
            true => Err(ClientError::Expired { not_after_secs: self.not_after_secs }),
            false => Ok(()),
        }
    }

    pub(crate) fn recipient(&self) -> Recipient<'_> {
        Recipient { key: &self.key, attested: Some(self), transport: &self.transport }
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
        let channel = evidence.channel;
        judge(evidence, policy, |accepted| match (channel, accepted.tls_spki_sha256) {
            (Channel::Tls { spki_sha256, .. }, Some(named)) if named == spki_sha256 => {
                self.http.pinned(named)
            }
            _ => Ok(self.http.transport().clone()),
        })
    }

    /// The same, of a node that gives its evidence at another address than it takes requests at, such
    /// as one behind a gateway that forwards requests alone.
    ///
    /// With `https://`, requests go to whoever has a certificate for this client's URL that this
    /// machine trusts: the evidence speaks for keys that requests are sealed to, and not for this
    /// connection.
    ///
    /// # Errors
    /// Where the node does not answer, or its evidence is refused; and [`ClientError::UnattestedTls`] under a
    /// policy that [requires attested TLS](Policy::require_attested_tls), which no such connection is.
    pub async fn attest_at(
        &self,
        evidence: &Self,
        policy: &Policy,
    ) -> Result<AttestedNode, ClientError> {
        // The connection that requests take is none that the evidence comes over: whatever is seen of that
        // one, of this one nothing is shown.
        if policy.requires_attested_tls() {
            return Err(ClientError::UnattestedTls);
        }
        let evidence = evidence.evidence(fresh_nonce()?).await?;
        judge(evidence, policy, |_| Ok(self.http.transport().clone()))
    }

    /// Asks the node for evidence, and judges nothing: with `https://`, not even whose certificate it is.
    ///
    /// # Errors
    /// Where the node does not answer, or at more length than any report.
    pub async fn evidence(&self, nonce: Nonce) -> Result<Evidence, ClientError> {
        let path = format!("/v1/attestation?nonce={nonce}");
        let (answer, channel) = self.http.get_public(&path, attest::MAX_REPORT_BYTES).await?;
        if answer.status() != 200 {
            return Err(refused(answer).await);
        }
        let report = answer.json_body().await?;
        let challenge = Challenge { nonce, now_secs: now_secs() };
        Ok(Evidence { report, challenge, channel })
    }
}

/// Judges evidence; `transport` says how to reach the node that it speaks for.
fn judge(
    evidence: Evidence,
    policy: &Policy,
    transport: impl FnOnce(&Attested) -> Result<Transport, HttpError>,
) -> Result<AttestedNode, ClientError> {
    let appraisal = evidence.appraise(policy);
    let Some(accepted) = appraisal.attested() else {
        let (appraisal, evidence) = (Box::new(appraisal), Box::new(evidence));
        return Err(ClientError::Untrusted { appraisal, evidence });
    };
    let attested = seal::Attested {
        signing_key: accepted.signing_key,
        keyset_digest: accepted.keyset_digest,
        model_manifest: accepted.model_manifest,
    };
    Ok(AttestedNode {
        key: NodeKey { encryption_key: accepted.exchange_key, stack_small_id: 0 },
        attested,
        transport: transport(accepted)?,
        not_after_secs: accepted.not_after_secs,
        appraisal,
        evidence,
    })
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
#[must_use]
pub fn now_secs() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
