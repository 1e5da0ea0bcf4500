//! Where a node's evidence comes from, and who may ask for it how often.
//!
//! An [`Attester`] owns the hardware. Quotes take from milliseconds to seconds and come one at a
//! time, so that verifiers wait, up to a bound, and one quote answers all who wait; quotes are made on
//! a thread of their own, since a read from the kernel cannot be given up, but waiting for it can.

mod attester;
mod collateral;
mod files;
mod gpu;
mod guest;
mod question;
mod rate_limiter;
mod rtmr;
mod source;
#[cfg(test)]
mod tests;
mod tsm;
mod waiting;

use std::{sync::Arc, time::Duration};

use thiserror::Error;

pub use attester::{Attester, Limits, PendingReport};
pub use collateral::CollateralFile;
#[cfg(feature = "nvml")]
pub use gpu::NvmlGpus;
pub use gpu::{GpuSource, NoGpus};
#[cfg(feature = "simulator")]
pub use guest::SimulatedGuest;
pub use guest::{Quoted, Sources, Tee, TsmGuest};
pub use question::{Answer, Subject};
pub use rtmr::{RTMR3_REGISTER, Rtmr3};
pub use source::Source;
pub use tsm::{TSM_REPORTS, Tsm};

use crate::event_log::EventLogError;

/// Why there is no evidence.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The kernel has no interface for reports.
    #[error("{path} is not there: mount configfs, and use a kernel of 6.7 or later")]
    NoTsm {
        /// Where it should be.
        path: String,
    },
    /// Another kind of TEE answers.
    #[error("the TEE is `{found}`, not `{expected}`")]
    WrongProvider {
        /// What the kernel says.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// Somebody else used the same entry.
    #[error("the report was disturbed by another process")]
    Raced,
    /// A quote longer than any.
    #[error("the quote is longer than {max_bytes} bytes")]
    TooLarge {
        /// The most that is read.
        max_bytes: usize,
    },
    /// A quote that ends early.
    #[error("the quote is truncated: {bytes} bytes")]
    Truncated {
        /// How much came.
        bytes: usize,
    },
    /// The system says no.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: std::io::Error,
    },
    /// RTMR3 holds what no log speaks of.
    #[error("RTMR3 was extended by something that left no event log: restart the guest")]
    Rtmr3Unknown,
    /// RTMR3 holds another model.
    #[error("RTMR3 already holds another model: restart the guest")]
    Rtmr3OtherModel,
    /// The log that belongs to RTMR3 cannot be read.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// No collateral.
    #[error("the collateral at {path} is missing or too long")]
    Collateral {
        /// The file.
        path: String,
    },
    /// The GPU's driver says no.
    #[cfg(feature = "nvml")]
    #[error("the GPU gives no evidence")]
    Nvml(#[from] nvml_wrapper::error::NvmlError),
    /// The GPU is not in the mode in which it may be trusted.
    #[error("GPU {index} is not in confidential-computing mode, or is in its developer mode")]
    GpuNotConfidential {
        /// Which.
        index: u32,
    },
    /// Code of others stopped.
    #[error("the GPU's evidence could not be read")]
    GpuPanicked,
    /// Too many are waiting.
    #[error("too many verifiers are waiting")]
    Busy,
    /// Too many have asked.
    #[error("too many quotes were asked for; try again in {retry_after:?}")]
    RateLimited {
        /// When there is another.
        retry_after: Duration,
    },
    /// The hardware takes too long.
    #[error("the quote was not made in time")]
    TimedOut,
    /// Nothing to hide a leaf of the nonces' tree with.
    #[error("the system gave no randomness")]
    Randomness,
    /// The quote that was to answer this verifier, and perhaps others, was not made.
    #[error(transparent)]
    NotMade(Arc<EvidenceError>),
    /// No thread.
    #[error("the thread that makes quotes is gone")]
    Stopped,
}
