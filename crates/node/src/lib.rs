//! The service: configuration, engine, queue, routes, errors, start-up.
//!
//! ```text
//! routes::confidential  body bound → envelope → seal::open → ImageRequest → engine
//! engine, worker        a bounded queue; a thread a device, each with the model
//! routes::respond       pixels → file → CreateImageResponse → responder.seal
//! routes::stream        the same as events, while the engine draws
//! ```
//! [`Node`] is what the routes share, [`app`] is the router, [`serve`] runs it on a listener.

mod auth;
mod config;
mod encode;
mod engine;
mod error;
mod gallery;
mod keys;
mod metrics;
mod node;
mod pace;
mod panics;
mod queue;
mod routes;
mod serve;
mod trace;
mod watcher;
mod worker;

pub use auth::ApiKeyDigest;
pub use config::{Config, ConfigError};
pub use encode::{EncodeError, encode};
pub use engine::Painter;
pub use keys::KeyError;
pub use node::{Node, Offering, Service, StartError};
pub use panics::hide_panic_messages;
pub use protocol::Format;
pub use routes::{MAX_BODY_BYTES, app};
pub use serve::serve;
