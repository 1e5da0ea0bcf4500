//! A model directory in the diffusers layout: what is in it, read once, hashed as it is read.

mod digest;
mod directory;
mod safetensors;
mod weights;

pub(crate) use digest::Manifest;
pub use directory::LoadProgress;
pub(crate) use directory::{Directory, Pace};
pub(crate) use weights::{Scope, TensorSource, Weights};
