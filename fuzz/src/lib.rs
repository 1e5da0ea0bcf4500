//! The fuzzer's targets: see `targets`, which the ordinary tests share.

mod targets;

pub use targets::{TARGETS, Target, run};
