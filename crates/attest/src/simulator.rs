//! Quotes in the true format of TDX, that no hardware stands behind.
//!
//! For development and tests: one verifier then serves both, and only the root differs. The keys of
//! this test PKI are published, in this file, so whoever likes can sign anything under it. Its root is
//! called «SIMULATED - NOT A TEE», no build for production contains it, and the production policy
//! refuses what leads to it.

mod collateral;
mod der;
pub(crate) mod pki;
mod quote;

use crate::event_log::{Rtmr, extend};

/// A guest that pretends.
#[derive(Debug, Clone)]
pub struct Simulator {
    rtmr3: Rtmr,
    flaw: Option<Flaw>,
}

/// What is wrong with a simulated platform, to test verifiers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// A debugger may be attached.
    Debug,
    /// Its firmware is out of date.
    OutOfDate,
    /// Its certificate was revoked.
    Revoked,
    /// Another image was launched.
    OtherImage,
}

/// A quote, and what it is verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedQuote {
    /// TDX quote, version 4.
    pub quote: Vec<u8>,
    /// Collateral, as JSON.
    pub collateral: Vec<u8>,
}

impl Simulator {
    /// A guest that has just started.
    #[must_use]
    pub fn new() -> Self {
        Self { rtmr3: [0; 48], flaw: None }
    }

    /// A guest that a verifier should refuse.
    #[must_use]
    pub fn with(flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..Self::new() }
    }

    /// Extends RTMR3.
    pub fn extend(&mut self, digest: &Rtmr) {
        self.rtmr3 = extend(&self.rtmr3, digest);
    }

    /// A quote over 64 bytes, with collateral of this time.
    #[must_use]
    pub fn quote(&self, report_data: &[u8; 64], now_secs: u64) -> SimulatedQuote {
        SimulatedQuote {
            quote: quote::quote(report_data, &self.rtmr3, self.flaw),
            collateral: collateral::json(now_secs, self.flaw),
        }
    }
}

impl Default for Simulator {
    fn default() -> Self {
        Self::new()
    }
}

/// The root that simulated quotes lead to, DER.
#[must_use]
pub fn root() -> Vec<u8> {
    pki::root()
}
