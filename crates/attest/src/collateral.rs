//! What quotes are verified with: which documents a machine's quotes need, where their makers publish them,
//! and the file that they become.
//!
//! Intel: «Provisioning Certification Service», API version 4 (`/sgx/certification/v4/pckcrl`,
//! `/tdx/certification/v4/tcb`, `/tdx/certification/v4/qe/identity`), which a PCCS answers too. AMD: «VCEK Certificate
//! and KDS Interface Specification» (57230), §4.
//!
//! Nothing here asks anybody: documents come in, and whoever fetched them is believed no more than before. All
//! of them are signed, and a verifier checks them.

mod form;

use std::{fmt, str::FromStr};

use dcap_qvl::{QuoteCollateralV3, config::PckCa, intel, quote::Quote};
use serde_json::Value;
use sev::{firmware::guest::AttestationReport, parser::ByteParser};
use thiserror::Error;
use x509_cert::{
    certificate::{CertificateInner, Raw},
    crl::CertificateList,
    der::Decode,
};

use self::form::{chain, der, signed};
use crate::{
    encoding::hex,
    verify::{SnpCollateral, why_not_tdx},
};

/// Intel's own service.
pub const INTEL_PCS: &str = "https://api.trustedservices.intel.com";
/// Where Intel publishes its root's revocation list; a PCCS has it at `rootcacrl`.
const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
/// AMD's own service.
pub const AMD_KDS: &str = "https://kdsintf.amd.com";
/// The longest of these documents.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// Of a SEV-SNP report.
const REPORT_BYTES: usize = 1184;

/// A generation of AMD's processors, as KDS names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Generation {
    fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }
}

impl FromStr for Generation {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "milan" => Ok(Self::Milan),
            "genoa" => Ok(Self::Genoa),
            "turin" => Ok(Self::Turin),
            _ => Err("must be milan, genoa or turin"),
        }
    }
}

/// Where Intel's documents of one platform are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxPlatform {
    /// The family, model, stepping, platform and custom SKU of the processor, hex.
    pub fmspc: String,
    /// Which of Intel's authorities certified it: `platform` or `processor`.
    pub authority: &'static str,
}

/// URLs of the four documents, in the order of [`TdxDocuments`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxUrls {
    /// The authority's revocation list, DER.
    pub pck_crl: String,
    /// The root's revocation list: DER, or hex of it from a PCCS.
    pub root_crl: String,
    /// TCB info, JSON.
    pub tcb_info: String,
    /// The quoting enclave's identity, JSON.
    pub qe_identity: String,
}

/// The documents, and the chains that come in their answers' heads, percent-encoded PEM.
#[derive(Debug, Clone)]
pub struct TdxDocuments {
    /// [`TdxUrls::pck_crl`] and `SGX-PCK-CRL-Issuer-Chain`.
    pub pck_crl: (Vec<u8>, String),
    /// [`TdxUrls::root_crl`].
    pub root_crl: Vec<u8>,
    /// [`TdxUrls::tcb_info`] and `TCB-Info-Issuer-Chain`.
    pub tcb_info: (Vec<u8>, String),
    /// [`TdxUrls::qe_identity`] and `SGX-Enclave-Identity-Issuer-Chain`.
    pub qe_identity: (Vec<u8>, String),
}

impl TdxPlatform {
    /// The platform that made this quote.
    ///
    /// # Errors
    /// Where it is no quote, or has no certificate of its platform.
    pub fn of_quote(quote: &[u8]) -> Result<Self, CollateralError> {
        let unread = |_| CollateralError::Quote;
        let quote = Quote::parse(quote).map_err(unread)?;
        let fmspc = intel::quote_fmspc(&quote).map_err(unread)?;
        let authority = match intel::quote_ca(&quote).map_err(unread)? {
            PckCa::Platform => "platform",
            PckCa::Processor => "processor",
        };
        Ok(Self { fmspc: hex(&fmspc).to_uppercase(), authority })
    }

    /// Where its documents are at this service.
    #[must_use]
    pub fn urls(&self, service: &str) -> TdxUrls {
        let service = service.trim_end_matches('/');
        let Self { fmspc, authority } = self;
        let root_crl = match service {
            INTEL_PCS => INTEL_ROOT_CRL.to_owned(),
            pccs => format!("{pccs}/sgx/certification/v4/rootcacrl"),
        };
        TdxUrls {
            pck_crl: format!("{service}/sgx/certification/v4/pckcrl?ca={authority}&encoding=der"),
            root_crl,
            tcb_info: format!("{service}/tdx/certification/v4/tcb?fmspc={fmspc}"),
            qe_identity: format!("{service}/tdx/certification/v4/qe/identity"),
        }
    }
}

impl TdxDocuments {
    /// The file.
    ///
    /// # Errors
    /// Names the document that is not what it should be.
    pub fn to_json(&self) -> Result<Vec<u8>, CollateralError> {
        let (tcb_info, tcb_info_signature) = signed(&self.tcb_info.0, "tcbInfo", "TCB info")?;
        let (qe_identity, qe_identity_signature) =
            signed(&self.qe_identity.0, "enclaveIdentity", "QE identity")?;
        let collateral = QuoteCollateralV3 {
            pck_crl_issuer_chain: chain(&self.pck_crl.1, "SGX-PCK-CRL-Issuer-Chain")?,
            root_ca_crl: crl(&self.root_crl, "root CRL")?,
            pck_crl: crl(&self.pck_crl.0, "PCK CRL")?,
            tcb_info_issuer_chain: chain(&self.tcb_info.1, "TCB-Info-Issuer-Chain")?,
            tcb_info,
            tcb_info_signature,
            qe_identity_issuer_chain: chain(
                &self.qe_identity.1,
                "SGX-Enclave-Identity-Issuer-Chain",
            )?,
            qe_identity,
            qe_identity_signature,
            pck_certificate_chain: None,
        };
        let json = serde_json::to_vec(&collateral);
        json.map_err(|_| CollateralError::Document { what: "collateral" })
    }
}

/// The chip that made a SEV-SNP report, and the firmware that its key is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpChip {
    generation: Generation,
    /// `{hardware id}?blSPL=…`
    vcek: String,
}

impl SnpChip {
    /// The chip of this report; reports of version 2 do not say of which generation it is.
    ///
    /// # Errors
    /// Where it is no report, does not say the generation, hides the chip's id, or is signed by a VLEK.
    pub fn of_report(
        report: &[u8],
        generation: Option<Generation>,
    ) -> Result<Self, CollateralError> {
        if report.len() != REPORT_BYTES {
            return Err(CollateralError::Quote);
        }
        let report = AttestationReport::from_bytes(report).map_err(|_| CollateralError::Quote)?;
        if report.key_info.signing_key() != 0 {
            return Err(CollateralError::Vlek);
        }
        if report.chip_id == [0; 64] {
            return Err(CollateralError::MaskedChip);
        }
        let said = report.cpuid_fam_id.zip(report.cpuid_mod_id);
        let said = said.and_then(|(family, model)| {
            match sev::Generation::identify_cpu(family, model).ok()? {
                sev::Generation::Milan => Some(Generation::Milan),
                sev::Generation::Genoa => Some(Generation::Genoa),
                sev::Generation::Turin => Some(Generation::Turin),
                _ => None,
            }
        });
        let generation = said.or(generation).ok_or(CollateralError::Generation)?;
        let tcb = report.reported_tcb;
        let (id, fmc) = match generation {
            // Eight bytes, and a level more.
            Generation::Turin => {
                (&report.chip_id[..8], format!("fmcSPL={:02}&", tcb.fmc.unwrap_or_default()))
            }
            _ => (&report.chip_id[..], String::new()),
        };
        let vcek = format!(
            "{}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
            hex(id),
            tcb.bootloader,
            tcb.tee,
            tcb.snp,
            tcb.microcode
        );
        Ok(Self { generation, vcek })
    }

    /// Where its certificate and its generation's revocation list are at this service.
    #[must_use]
    pub fn urls(&self, service: &str) -> [String; 2] {
        let base = format!("{}/vcek/v1/{}", service.trim_end_matches('/'), self.generation.name());
        [format!("{base}/{}", self.vcek), format!("{base}/crl")]
    }

    /// The file, of the two documents.
    ///
    /// # Errors
    /// Names the document that is not what it should be.
    pub fn to_json(&self, [vcek, list]: [&[u8]; 2]) -> Result<Vec<u8>, CollateralError> {
        let vcek = der(vcek);
        let read = CertificateInner::<Raw>::from_der(&vcek);
        read.map_err(|_| CollateralError::Document { what: "VCEK" })?;
        let list = crl(list, "CRL")?;
        Ok(SnpCollateral { vcek, crl: Some(list) }.to_json())
    }
}

/// A part of a file of collateral, and until when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// Which part.
    pub what: &'static str,
    /// Whose part it is: its FMSPC or id, or the subject or issuer of a certificate or list.
    pub of: String,
    /// From when it holds, as RFC 3339 has it.
    pub from: String,
    /// Until when it holds, likewise.
    pub until: String,
}

impl fmt::Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, of, from, until } = self;
        write!(f, "{what:12} {from} to {until}  {of}")
    }
}

/// The parts of a file of collateral, of TDX or of SEV-SNP.
///
/// # Errors
/// Where it is neither.
pub fn parts(file: &[u8]) -> Result<Vec<Dated>, CollateralError> {
    if let Ok(tdx) = serde_json::from_slice::<QuoteCollateralV3>(file) {
        return Ok(vec![
            json_part("TCB info", &tdx.tcb_info, "fmspc")?,
            json_part("QE identity", &tdx.qe_identity, "id")?,
            crl_part("PCK CRL", &tdx.pck_crl)?,
            crl_part("root CRL", &tdx.root_ca_crl)?,
        ]);
    }
    if let Ok(snp) = SnpCollateral::parse(file) {
        let unread = |_| CollateralError::Document { what: "VCEK" };
        let vcek = CertificateInner::<Raw>::from_der(&snp.vcek).map_err(unread)?;
        let validity = vcek.tbs_certificate().validity();
        let vcek = Dated {
            what: "VCEK",
            of: vcek.tbs_certificate().subject().to_string(),
            from: validity.not_before.to_date_time().to_string(),
            until: validity.not_after.to_date_time().to_string(),
        };
        let list = snp.crl.as_deref().map(|list| crl_part("CRL", list)).transpose()?;
        return Ok(std::iter::once(vcek).chain(list).collect());
    }
    Err(CollateralError::File { why: why_not_tdx(file) })
}

fn json_part(what: &'static str, text: &str, name: &str) -> Result<Dated, CollateralError> {
    let unread = CollateralError::Document { what };
    let Ok(json) = serde_json::from_str::<Value>(text) else { return Err(unread) };
    let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    match (text("issueDate"), text("nextUpdate")) {
        (Some(from), Some(until)) => {
            Ok(Dated { what, of: text(name).unwrap_or_default(), from, until })
        }
        _ => Err(unread),
    }
}

fn crl_part(what: &'static str, der: &[u8]) -> Result<Dated, CollateralError> {
    let unread = |_| CollateralError::Document { what };
    let list = CertificateList::<Raw>::from_der(der).map_err(unread)?.tbs_cert_list;
    let until = list.next_update.map(|time| time.to_date_time().to_string());
    Ok(Dated {
        what,
        of: list.issuer.to_string(),
        from: list.this_update.to_date_time().to_string(),
        until: until.ok_or(CollateralError::Document { what })?,
    })
}

/// A revocation list, as DER.
fn crl(bytes: &[u8], what: &'static str) -> Result<Vec<u8>, CollateralError> {
    let der = der(bytes);
    match CertificateList::<Raw>::from_der(&der) {
        Ok(_) => Ok(der),
        Err(_) => Err(CollateralError::Document { what }),
    }
}

/// Why there is no collateral.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CollateralError {
    /// Neither a TDX quote nor a SEV-SNP report.
    #[error("the quote cannot be read")]
    Quote,
    /// Its chain is another, which no verifier here follows.
    #[error(
        "the report is signed by a VLEK, a key of the cloud's: only VCEKs, keys of the chip, are supported"
    )]
    Vlek,
    /// Chips are found by their ids.
    #[error("the report hides the chip's id (MASK_CHIP_ID): its certificate cannot be asked for")]
    MaskedChip,
    /// A report of version 2, or of a processor that is not known here.
    #[error(
        "the report does not say of which generation the processor is: --generation milan, genoa or turin"
    )]
    Generation,
    /// A service answered something else.
    #[error("the service's {what} is not what it should be")]
    Document {
        /// Which document.
        what: &'static str,
    },
    /// No collateral.
    #[error("{why}")]
    File {
        /// What it is instead.
        why: &'static str,
    },
}
