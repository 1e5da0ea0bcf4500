//! What makes images: a FLUX pipeline, or a stand-in for one.

use flux::{Generated, Job, ProgressObserver};
use protocol::GuidanceUse;

/// What makes images: [`flux::Pipeline`], or a stand-in where a test or a benchmark is about
/// everything around it.
pub trait Generator: Send + 'static {
    /// Makes the images of one job. `watch` is told of each step, may ask to see the images on the
    /// way, and may ask to stop.
    ///
    /// # Errors
    /// [`flux::Error::Cancelled`] where `watch` asked to stop, and whatever went wrong otherwise.
    fn generate(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, flux::Error>;

    /// How many images of a job's size, from input images like its own, it makes together.
    fn batch_size(&self, _job: &Job<'_>) -> usize {
        1
    }

    /// The most input images that it draws one image from; 0 where it reads none.
    fn max_input_images(&self) -> usize {
        0
    }

    /// Makes the images of jobs that [can be batched](Job::is_batchable_with). Each job has its own
    /// end.
    ///
    /// # Errors
    /// What went wrong for all of them at once.
    fn generate_batch(
        &mut self,
        jobs: &mut [(&Job<'_>, &mut dyn ProgressObserver)],
    ) -> Result<Vec<Result<Generated, flux::Error>>, flux::Error> {
        Ok(jobs.iter_mut().map(|(job, watch)| self.generate(job, &mut **watch)).collect())
    }

    /// Where it computes, and in which type.
    fn device_name(&self) -> String {
        "stand-in".to_owned()
    }

    /// How much of a GPU's memory it has taken at most, where it computes on one.
    fn peak_memory_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether it takes a guidance scale.
    fn guidance(&self) -> GuidanceUse {
        GuidanceUse::Ignores
    }
}

/// A model of an engine, by the name that requests have for it.
pub struct NamedGenerator {
    /// As in [`protocol::ImageRequest::model`].
    pub model: String,
    /// What draws with it.
    pub generator: Box<dyn Generator>,
}

impl Generator for flux::Pipeline {
    fn generate(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, flux::Error> {
        self.generate_watched(job, watch)
    }

    fn batch_size(&self, job: &Job<'_>) -> usize {
        self.batch_size_of(job).get()
    }

    fn max_input_images(&self) -> usize {
        flux::Pipeline::max_input_images(self)
    }

    fn generate_batch(
        &mut self,
        jobs: &mut [(&Job<'_>, &mut dyn ProgressObserver)],
    ) -> Result<Vec<Result<Generated, flux::Error>>, flux::Error> {
        flux::Pipeline::generate_batch(self, jobs)
    }

    fn device_name(&self) -> String {
        self.place()
    }

    fn peak_memory_bytes(&self) -> Option<u64> {
        flux::Pipeline::peak_memory_bytes(self)
    }

    fn guidance(&self) -> GuidanceUse {
        match self.reads_guidance() {
            true => GuidanceUse::Reads,
            false => GuidanceUse::Ignores,
        }
    }
}
