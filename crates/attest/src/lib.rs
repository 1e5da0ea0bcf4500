//! What a node's evidence binds, and which trusted execution environment stands behind it.
//!
//! [`binding`] is the one place where keys, model and nonce become bytes that a quote signs.
//! [`Platform`] finds the environment. Evidence itself and its verification are not yet here: a
//! node runs on the simulated platform alone until they are, and says so.

pub mod binding;
mod encoding;
mod platform;

pub use platform::{NoPlatform, Platform, PlatformChoice, UnknownPlatform};

#[cfg(test)]
mod tests;
