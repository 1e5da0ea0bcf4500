//! What a client sends stays between it and the model. The program itself serves, with the demo model
//! and its real tokenizers; what it writes, and what its memory holds, is searched.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;
mod collector;
mod keys;
mod logs;
mod memory;
mod pieces;
mod process;
#[path = "../program/mod.rs"]
mod program;
mod scan;
mod settings;
mod traces;
