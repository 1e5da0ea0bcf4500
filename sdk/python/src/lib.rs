//! Python's window on `attest` and `seal`: bytes in, bytes out. Python moves the bytes; what is believed of
//! them is decided here, by the code that the command line and the proxy run.
//!
//! An `Attested` comes out of an accepted `Appraisal` and from nowhere else, and sealing takes one: Python code
//! cannot seal to a key that nobody vouched for.

use std::str::FromStr;

use attest::{
    binding::Nonce,
    verify::{self, Challenge, Channel},
};
use pyo3::{
    create_exception,
    exceptions::{PyException, PyValueError},
    prelude::*,
};
use sha2::{Digest, Sha256};
use x509_cert::der::{Decode, Encode};

mod exchange;

create_exception!(
    _native,
    AnswerFault,
    PyException,
    "What is wrong with an answer: (fault, message)."
);

/// Rules by which evidence is judged.
#[pyclass(frozen, module = "obscura")]
struct Policy(attest::Policy);

#[pymethods]
impl Policy {
    /// The rules of `attestation/policy.toml`, or those of `toml`; and of simulated nodes, where they are to be
    /// accepted, those of `attestation/simulated.toml` or of `simulated_toml`.
    ///
    /// Raises `ValueError` where a text is no policy.
    #[new]
    #[pyo3(signature = (toml=None, *, accept_simulated=false, simulated_toml=None, require_attested_tls=false))]
    fn new(
        toml: Option<&str>,
        accept_simulated: bool,
        simulated_toml: Option<&str>,
        require_attested_tls: bool,
    ) -> PyResult<Self> {
        let policy = match toml {
            Some(toml) => attest::Policy::from_toml(toml).map_err(|error| value_error(&error))?,
            None => attest::Policy::production(),
        };
        let policy = match (accept_simulated, simulated_toml) {
            (false, None) => policy,
            (false, Some(_)) => {
                return Err(PyValueError::new_err(
                    "rules for simulated nodes, which are not accepted",
                ));
            }
            (true, None) => policy.dangerous().accept_simulated(),
            (true, Some(toml)) => {
                policy.dangerous().accept_simulated_by(toml).map_err(|error| value_error(&error))?
            }
        };
        Ok(Self(if require_attested_tls { policy.require_attested_tls() } else { policy }))
    }

    /// SHA-256 of the rules' text, in hexadecimal.
    #[getter]
    fn digest(&self) -> String {
        hex(&self.0.digest())
    }

    #[getter]
    fn accepts_simulated(&self) -> bool {
        self.0.accepts_simulated()
    }
}

/// One check of an appraisal.
#[pyclass(frozen, get_all, module = "obscura")]
struct Check {
    id: &'static str,
    title: &'static str,
    outcome: String,
    detail: String,
    line: String,
}

#[pymethods]
impl Check {
    fn __str__(&self) -> &str {
        &self.line
    }

    fn __repr__(&self) -> String {
        format!("<Check {} {}>", self.id, self.outcome)
    }
}

/// What came of a report.
#[pyclass(frozen, module = "obscura")]
struct Appraisal(verify::Appraisal);

#[pymethods]
impl Appraisal {
    /// `accepted`, `rejected`, `unsupported` or `malformed`.
    #[getter]
    fn verdict(&self) -> String {
        self.0.verdict.to_string().to_lowercase()
    }

    /// That of `obscura verify`: 0, 10, 20 or 30.
    #[getter]
    fn exit_code(&self) -> u8 {
        self.0.verdict.exit_code()
    }

    #[getter]
    fn platform(&self) -> Option<&'static str> {
        self.0.platform.map(attest::Platform::name)
    }

    #[getter]
    fn checks(&self) -> Vec<Check> {
        let check = |check: &verify::Check| Check {
            id: check.id,
            title: check.title,
            outcome: check.outcome.to_string(),
            detail: check.detail.clone(),
            line: check.to_string(),
        };
        self.0.checks.iter().map(check).collect()
    }

    /// What the evidence vouches for; `None` unless it was accepted.
    #[getter]
    fn attested(&self) -> Option<Attested> {
        self.0.attested().map(Attested::of)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<Appraisal {}>", self.verdict())
    }
}

/// What accepted evidence vouches for. Keys and digests are 32 bytes.
#[pyclass(frozen, get_all, module = "obscura")]
struct Attested {
    platform: &'static str,
    /// X25519: what requests are sealed to.
    exchange_key: [u8; 32],
    /// Ed25519: who signs answers.
    signing_key: [u8; 32],
    keyset_digest: [u8; 32],
    model_manifest: [u8; 32],
    /// Of the SubjectPublicKeyInfo that the node's TLS ends at, where it ends in the node.
    tls_spki_sha256: Option<[u8; 32]>,
    /// Seconds since 1970 until which the keys may be relied on.
    not_after: u64,
}

impl Attested {
    fn of(attested: &verify::Attested) -> Self {
        Self {
            platform: attested.platform.name(),
            exchange_key: attested.exchange_key,
            signing_key: attested.signing_key,
            keyset_digest: attested.keyset_digest,
            model_manifest: attested.model_manifest,
            tls_spki_sha256: attested.tls_spki_sha256,
            not_after: attested.not_after_secs,
        }
    }
}

/// Judges a report. `nonce` is what the node was asked with, 64 lower-case hexadecimal digits, or `None` where
/// it was not asked; `now` is in seconds since 1970. `certificate` is that, in DER (RFC 5280 §4.1), of whoever the
/// connection ended at, where the caller's TLS found it valid for the host.
///
/// Raises `ValueError` where the nonce or the certificate is none.
#[pyfunction]
#[pyo3(signature = (report, *, nonce, now, policy, certificate=None))]
fn appraise(
    py: Python<'_>,
    report: &[u8],
    nonce: Option<&str>,
    now: u64,
    policy: &Policy,
    certificate: Option<&[u8]>,
) -> PyResult<Appraisal> {
    let nonce = read_nonce(nonce)?;
    let channel = match certificate {
        Some(der) => Channel::Tls { spki_sha256: spki_sha256(der)?, is_publicly_valid: true },
        None => Channel::Plain,
    };
    let challenge = Challenge { nonce, now_secs: now };
    Ok(Appraisal(py.detach(|| verify::appraise_over(report, &policy.0, &challenge, &channel))))
}

/// For test vectors: the same, by roots of a test's own in place of AMD's, each a generation and two certificates in PEM.
/// Not in a wheel that is built without `test-roots`.
#[cfg(feature = "test-roots")]
#[pyfunction]
#[pyo3(signature = (roots, report, *, nonce, now, policy))]
fn dangerous_appraise(
    roots: Vec<(String, String, String)>,
    report: &[u8],
    nonce: Option<&str>,
    now: u64,
    policy: &Policy,
) -> PyResult<Appraisal> {
    let challenge = Challenge { nonce: read_nonce(nonce)?, now_secs: now };
    let appraise = verify::dangerous::appraise_under_roots;
    Ok(Appraisal(appraise(&roots, report, &policy.0, &challenge)))
}

fn read_nonce(nonce: Option<&str>) -> PyResult<Nonce> {
    nonce.map_or(Ok(Nonce::ABSENT), |nonce| {
        Nonce::from_str(nonce).map_err(|error| value_error(&error))
    })
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7).
fn spki_sha256(certificate: &[u8]) -> PyResult<[u8; 32]> {
    let unreadable = |_| PyValueError::new_err("the connection's certificate cannot be read");
    let certificate = x509_cert::Certificate::from_der(certificate).map_err(unreadable)?;
    let spki =
        certificate.tbs_certificate().subject_public_key_info().to_der().map_err(unreadable)?;
    Ok(Sha256::digest(&spki).into())
}

fn value_error(error: &dyn std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Evidence judged, requests sealed, answers opened.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("AnswerFault", module.py().get_type::<AnswerFault>())?;
    module.add("MAX_REPORT_BYTES", attest::MAX_REPORT_BYTES)?;
    module.add_class::<Policy>()?;
    module.add_class::<Check>()?;
    module.add_class::<Appraisal>()?;
    module.add_class::<Attested>()?;
    module.add_class::<exchange::Exchange>()?;
    module.add_function(wrap_pyfunction!(appraise, module)?)?;
    #[cfg(feature = "test-roots")]
    module.add_function(wrap_pyfunction!(dangerous_appraise, module)?)?;
    module.add_function(wrap_pyfunction!(exchange::seal_body, module)?)?;
    module.add_function(wrap_pyfunction!(exchange::dangerous_seal, module)?)?;
    Ok(())
}
