//! The service: configuration, routes, errors, metrics, start-up.
//!
//! ```text
//! routes::confidential  body bound → envelope → seal::open → ImageRequest → engine::Engine
//! routes::inputs        files → input images, of edits
//! routes::respond       pixels → file → CreateImageResponse → responder.seal
//! routes::stream        the same as events, while the engine draws
//! delivery              answers on their way, within bounds of time and memory
//! ```
//! [`Node`] is what the routes share, [`app`] is the router, [`serve`] runs it on a listener.

mod address;
mod auth;
mod base_url;
mod body;
mod client_id;
mod clock;
mod config;
mod delivery;
mod edits;
mod error;
mod keys;
mod limits;
mod metrics;
mod models;
mod node;
mod origins;
mod panics;
mod requests;
mod routes;
mod serve;
mod tls;
mod trace;

/// The commit that the program is built from, and whether the tree was another by then; where the build was told,
/// or could ask.
pub const COMMIT: Option<&str> = option_env!("OBSCURA_COMMIT");
/// The program's version, with the commit where it is known.
pub const VERSION: &str = env!("OBSCURA_VERSION");

pub use address::ForwardedHeader;
pub use auth::ApiKeyDigest;
pub use config::{
    Config, ConfigError, InvalidListen, LaunchEvidence, ProvenanceChoice, TlsChoice, parse_listen,
};
pub use keys::KeyError;
pub use limits::MAX_BODY_BYTES;
pub use models::{LoadedModel, LoadedModels, ModelsError};
pub use node::{Node, Service, StartError};
pub use origins::{InvalidOrigin, WebOrigin};
pub use panics::hide_panic_messages;
pub use routes::app;
pub use serve::{Probes, serve};
pub use tls::TlsError;
