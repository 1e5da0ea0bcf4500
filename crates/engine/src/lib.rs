//! What runs a model for many: a bounded queue, and a thread a device that takes from it, alone or
//! in batches. No HTTP.
//!
//! ```text
//! Engine::reserve → Permit → Permit::generate → queue → worker → Generator → Output
//! encode          pixels → PNG, JPEG, WebP
//! ```
//! [`Generator`] is the model; [`Observer`] is told what to count.

mod encode;
mod engine;
mod generator;
mod observer;
mod progress;
mod queue;
mod throughput;
mod worker;

pub use encode::{EncodeError, encode};
pub use engine::{Busy, Engine, GenerateError, Output, Permit, QueueLimits, Update};
// What the interface of this crate is written in.
pub use flux::{
    Error, Generated, Job, Picture, Pipeline, Preview, Progress, PromptTokens, Timings, Watch,
};
pub use generator::Generator;
pub use observer::{Failure, JobSummary, Observer};
