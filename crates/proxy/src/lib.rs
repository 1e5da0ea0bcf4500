//! A client's side-car: programs speak OpenAI's image API, or Atoma's, in clear text on loopback; outside
//! goes nothing but requests that are sealed to nodes whose evidence was accepted.
//!
//! ```text
//! guard          Host, Origin, content type, the caller's key, bounds
//! images, atoma  what a caller says → a request
//! pool           nodes: their evidence, whose turn it is, what is tried again
//!   client       verify, seal, open, check
//! audit          every report that was judged, on disk
//! verification   the verdicts, for programs and for people
//! ```
//! There is no way from a caller's bytes to a node but [`client::Call`] with an
//! [`client::AttestedNode`], and none to make one of those without accepted evidence.

mod atoma;
mod audit;
mod body;
mod caller_keys;
mod client_key;
mod config;
mod error;
mod guard;
mod images;
mod models;
mod pool;
mod proxy;
mod routes;
mod serve;
#[cfg(test)]
mod tests;
mod verification;

pub use audit::AuditError;
pub use config::{Config, ConfigError, MAX_BODY_BYTES, NodeAddress};
pub use proxy::{Proxy, StartError};
pub use serve::serve;
