//! What a node's evidence binds, who stands behind it, and how a stranger checks it.
//!
//! [`binding`] is the one place where keys, model and nonces become bytes that a quote signs;
//! [`nonces`] lets one quote answer all verifiers that wait.
//! [`Platform`] finds the trusted execution environment and [`evidence`] asks it to sign. A [`Report`]
//! is what travels; [`verify`](mod@verify) judges it by a [`Policy`]. [`measure`] computes, from the files
//! of a release, the registers that a policy names.

pub mod binding;
pub mod collateral;
mod encoding;
pub mod event_log;
pub mod evidence;
pub mod gpu_evidence;
pub mod measure;
mod measured;
mod models;
pub mod nonces;
mod platform;
mod policy;
mod report;
mod roots;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod verify;

pub use measured::measurements;
pub use models::ReportedModel;
pub use platform::{NoPlatform, Platform, PlatformChoice, UnknownPlatform};
pub use policy::{DangerousPolicy, Policy, PolicyError};
pub use report::{MAX_REPORT_BYTES, Report, ReportError};

#[cfg(test)]
mod tests;
