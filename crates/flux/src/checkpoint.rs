//! A model directory: what is in it, read once, hashed as it is read.

pub(crate) mod bfl;
mod digest;
mod directory;
mod files;
mod layout;
mod safetensors;
mod shards;
mod weights;

pub(crate) use directory::{Component, Directory, Keep, Kept, as_read};
pub(crate) use files::Files;
pub(crate) use layout::{Layout, Part};
pub use shards::LoadProgress;
pub(crate) use shards::Shards;
pub(crate) use weights::{TensorSource, VarBuilder, Weights};
