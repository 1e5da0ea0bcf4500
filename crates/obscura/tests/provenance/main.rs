//! Images that tell where they are from: the real program draws, signs, verifies and draws again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod edit;
mod image;
mod node;
#[path = "../program/mod.rs"]
mod program;
mod receipt;
mod shown;
