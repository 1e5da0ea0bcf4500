//! What runs a model for many: a bounded queue, and a thread a device that takes from it, alone or
//! in batches; and images from files and to files. No HTTP.
//!
//! ```text
//! Engine::reserve → Permit → Permit::generate → queue → worker → Generator → Output
//! InputFile       PNG, JPEG, WebP → pixels
//! encode          pixels → PNG, JPEG, WebP
//! ```
//! [`Generator`] is the model; [`Observer`] is told what to count.

mod admission;
mod client;
mod decode;
mod encode;
mod engine;
mod entry;
mod fair;
#[doc(hidden)]
pub mod fuzzing;
mod generator;
mod observer;
mod progress;
mod queue;
#[cfg(test)]
mod tests;
mod throughput;
mod updates;
mod work;
mod worker;

pub use admission::{Busy, QueueLimits};
pub use client::{ClientId, Sharers};
pub use decode::{Decoded, InputFile};
pub use encode::{EncodeError, encode, padded_bytes};
pub use engine::{Engine, Generation, Permit};
pub use entry::{GenerateError, Output, patches};
// What the interface of this crate is written in.
pub use fair::FairQueue;
pub use flux::{
    Error, Generated, Image, InputImage, InputMask, Job, Pipeline, Preview, Progress,
    ProgressObserver, PromptTokens, Timings,
};
pub use generator::{Generator, NamedGenerator};
pub use observer::{Failure, JobSummary, Observer};
pub use updates::{PartialImage, Update, UpdateSender, Updates, updates};
