//! A model directory: what is in it, read once, hashed as it is read.

pub(crate) mod bfl;
mod directory;
mod files;
mod layout;
mod safetensors;
mod weights;

pub use directory::LoadProgress;
pub(crate) use directory::{Directory, Pace, Shards};
pub(crate) use files::Files;
pub(crate) use layout::{Layout, Part};
pub(crate) use weights::{Scope, TensorSource, Weights};
