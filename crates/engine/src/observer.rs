//! What an engine tells those who count: numbers alone, never a word of a prompt.

use std::time::Duration;

use flux::Timings;

/// Who counts what the engines do. Called on the engines' threads: must not block.
pub trait Observer: Send + Sync + 'static {
    /// A batch begins, of one job or of several.
    fn batch_started(&self) {}

    /// So many more sampler steps are done, by the model of this name.
    fn steps_done(&self, _model: &str, _steps: usize) {}

    /// A job has its images.
    fn job_done(&self, _job: &JobSummary<'_>) {}

    /// A job ends without images.
    fn job_failed(&self, _why: Failure) {}

    /// The most that tensors have taken of a GPU's memory.
    fn peak_memory(&self, _engine: usize, _bytes: u64) {}
}

/// Counts nothing.
impl Observer for () {}

/// What is told of a job that has its images.
#[derive(Debug, Clone, Copy)]
pub struct JobSummary<'a> {
    /// The name of the model that drew them: one that the engine has.
    pub model: &'a str,
    /// Images made.
    pub images: usize,
    /// Pixels of all of them.
    pub pixels: u64,
    /// Sampler steps of all images.
    pub steps: usize,
    /// How long it waited for an engine.
    pub waited: Duration,
    /// How long it took in all, its waiting included.
    pub took: Duration,
    /// How long each stage took.
    pub timings: &'a Timings,
}

/// Why a job has no images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Its client hung up.
    Cancelled,
    /// The model failed.
    Failed,
    /// The model panicked.
    Panicked,
}
