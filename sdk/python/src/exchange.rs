//! One request, and what answers it.

use protocol::{ConfidentialComputeRequest, ConfidentialComputeResponse};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};
use seal::{ResponseError, StreamOpener, Zeroizing};
use serde::Deserialize;

use crate::{AnswerFault, Attested, value_error};

/// Opens what answers one request: an answer, or the events of one, in any number.
#[pyclass(module = "obscura")]
pub(crate) struct Exchange(StreamOpener);

#[pymethods]
impl Exchange {
    /// The body of an answer whose tag, hash, signature and receipt hold: the attested node's, to this very
    /// request. `answer` is the envelope's JSON. The spaces that padded the body are left off.
    ///
    /// Raises `AnswerFault`.
    fn open<'py>(&mut self, py: Python<'py>, answer: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let opener = &mut self.0;
        let opened = py
            .detach(|| {
                let parts: Parts = serde_json::from_slice(answer).map_err(|_| Fault::Malformed)?;
                opener.open(&parts.into()).map_err(Fault::Response)
            })
            .map_err(Fault::into_py)?;
        Ok(PyBytes::new(py, opened.body.as_bytes().trim_ascii_end()))
    }
}

/// What is believed of an answer. Anybody on the way may have written the rest, `usage` among it, or have
/// broken it: it is not looked at.
#[derive(Deserialize)]
struct Parts {
    ciphertext: String,
    nonce: String,
    response_hash: Option<String>,
    signature: Option<String>,
    receipt: Option<String>,
}

impl From<Parts> for ConfidentialComputeResponse {
    fn from(parts: Parts) -> Self {
        let Parts { ciphertext, nonce, response_hash, signature, receipt } = parts;
        Self { ciphertext, nonce, response_hash, signature, receipt, usage: None }
    }
}

/// Seals a JSON body, padded, to an attested key: the envelope's fields in JSON, without the model's name, and
/// what opens the answer.
///
/// Raises `ValueError` where the key cannot be sealed to, or the system gives no randomness.
#[pyfunction(name = "seal")]
pub(crate) fn seal_body(
    py: Python<'_>,
    attested: &Attested,
    body: &[u8],
) -> PyResult<(String, Exchange)> {
    let node_key = attested.exchange_key;
    let body = Zeroizing::new(body.to_vec());
    let (request, opener) =
        py.detach(|| seal::seal_request(&node_key, body)).map_err(|error| value_error(&error))?;
    let attested = seal::Attested {
        signing_key: attested.signing_key,
        keyset_digest: attested.keyset_digest,
        model_manifest: attested.model_manifest,
    };
    Ok((json(&request)?, Exchange(opener.stream_attested(attested))))
}

/// For test vectors: exactly these bytes with exactly these secrets, to a key that nobody vouched for. `attested` is
/// the signing key, the keyset's digest and the model manifest's. Whoever knows the secrets reads what is sealed.
#[pyfunction]
pub(crate) fn dangerous_seal(
    node_key: [u8; 32],
    body: &[u8],
    secrets: ([u8; 32], [u8; 16], [u8; 12]),
    attested: ([u8; 32], [u8; 32], [u8; 32]),
) -> PyResult<(String, Exchange)> {
    let (secret, salt, nonce) = secrets;
    let draws = seal::dangerous::ClientDraws { secret, salt, nonce };
    let (request, opener) =
        seal::dangerous::seal_exactly(&node_key, Zeroizing::new(body.to_vec()), draws)
            .map_err(|error| value_error(&error))?;
    let (signing_key, keyset_digest, model_manifest) = attested;
    let attested = seal::Attested { signing_key, keyset_digest, model_manifest };
    Ok((json(&request)?, Exchange(opener.stream_attested(attested))))
}

fn json(request: &ConfidentialComputeRequest) -> PyResult<String> {
    serde_json::to_string(request).map_err(|_| PyValueError::new_err("no JSON of the request"))
}

/// Why an answer is not believed.
enum Fault {
    /// Its JSON is no envelope.
    Malformed,
    Response(ResponseError),
}

impl Fault {
    fn into_py(self) -> PyErr {
        let (fault, message) = match &self {
            Self::Malformed => {
                ("malformed", "the answer is not of the protocol's shape".to_owned())
            }
            Self::Response(error) => (name(error), error.to_string()),
        };
        AnswerFault::new_err((fault, message))
    }
}

/// As `tests/vectors/README.md` names what is wrong.
fn name(error: &ResponseError) -> &'static str {
    match error {
        ResponseError::ReflectedNonce => "reflected",
        ResponseError::Decryption => "decryption",
        ResponseError::HashMismatch => "hash",
        ResponseError::Signature(_) => "signature",
        ResponseError::UnexpectedSigner { .. } => "signer",
        ResponseError::ReceiptMissing => "receipt_missing",
        ResponseError::ReceiptInvalid => "receipt",
        // A missing hash or signature, and what later versions may add.
        _ => "malformed",
    }
}
