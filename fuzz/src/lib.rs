//! The fuzzer's targets: see `targets.rs`, which the ordinary tests share.

mod targets;

pub use targets::{TARGETS, Target, run};
