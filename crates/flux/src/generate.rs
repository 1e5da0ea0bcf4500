//! From jobs to their images.
//!
//! Jobs of one size are drawn together, where the device has room: their images' tokens go through the
//! transformer one after the other, in the same products. An image does not depend on those beside it.

use std::{collections::VecDeque, ops::ControlFlow, rc::Rc};

use candle_core::{Device, Tensor};

use crate::{
    Error, Generated, Image, Job, Pipeline, Preview, Progress, ProgressObserver, Result, Timings,
    clock::Event,
    denoise::{DenoiseContext, Given, Inpainting, Settings},
    job::Part,
    wiped::Wiped,
};

impl Pipeline {
    /// Makes the images of a job. `watch` is told of each part that is done; where it answers
    /// `Break`, the job ends there.
    ///
    /// # Errors
    /// [`Error::Cancelled`] where `watch` asked to stop, otherwise where a tensor operation fails
    /// (for lack of memory, for instance).
    pub fn generate(
        &self,
        job: &Job<'_>,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Generated, Error> {
        struct Told<'a>(&'a mut dyn FnMut(Progress) -> ControlFlow<()>);
        impl ProgressObserver for Told<'_> {
            fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
                (self.0)(progress)
            }
        }
        self.generate_watched(job, &mut Told(watch))
    }

    /// [`Pipeline::generate`] for who wants to see the images on the way too.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn generate_watched(
        &self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, Error> {
        let mut made = self.generate_batch(&mut [(job, watch)])?;
        made.pop().expect("an answer a job")
    }

    /// Makes the images of several jobs, [`Pipeline::batch_size`] of them at a time. Each job has its own
    /// end: stopped, failed or done. On a CPU, in f32, the images are bit by bit those of each job
    /// alone; a GPU's libraries may choose other algorithms for more rows, which shows in last bits.
    ///
    /// # Errors
    /// [`Error::MixedBatch`] where jobs differ in what [`Job::is_batchable_with`] compares; otherwise where a
    /// tensor operation fails that all had a part in.
    pub fn generate_batch(
        &self,
        jobs: &mut [(&Job<'_>, &mut dyn ProgressObserver)],
    ) -> Result<Vec<Result<Generated, Error>>, Error> {
        let Some(((first, _), others)) = jobs.split_first() else { return Ok(Vec::new()) };
        if !others.iter().all(|(job, _)| job.is_batchable_with(first)) {
            return Err(Error::MixedBatch);
        }
        let settings = Settings { size: first.size, steps: first.steps, guidance: first.guidance };
        let input_tokens = self.input_tokens(first);
        let mut active = Vec::with_capacity(jobs.len());
        for (job, watch) in jobs {
            active.push(ActiveJob::begin(self, job, &mut **watch)?);
        }
        let samples: Vec<Sample> = active
            .iter()
            .enumerate()
            .flat_map(|(job, of)| of.indices().map(move |index| Sample { job, index }))
            .collect();
        let mut batcher = Batcher { pipeline: self, settings, jobs: active };
        let batch = self.batch_size_with(settings.size, input_tokens);
        let mut batches = samples.chunks(batch.get()).peekable();
        // Noise is drawn on the host, while a GPU is busy with what it was given before.
        let mut noise = batches.peek().map(|batch| batcher.noise(batch)).transpose()?;
        while let (Some(batch), Some(drawn)) = (batches.next(), noise.take()) {
            let denoised = batcher.denoise(batch, drawn)?;
            noise = batches.peek().map(|batch| batcher.noise(batch)).transpose()?;
            batcher.decode(denoised)?;
        }
        let end = |job: ActiveJob<'_, '_>| {
            let timings = Timings::of(&job.spans)?;
            Ok(job.end(timings))
        };
        batcher.jobs.into_iter().map(end).collect()
    }
}

/// One job on its way.
struct ActiveJob<'a, 'w> {
    asked: &'a Job<'a>,
    watch: &'w mut dyn ProgressObserver,
    /// Its prompt and input images; or why it ended before all of its images were made.
    state: Result<Given>,
    /// Over all images.
    steps_done: usize,
    images: Vec<Image>,
    spans: Vec<(Part, [Rc<Event>; 2])>,
}

/// An image to be drawn: a place in a batch.
#[derive(Clone, Copy)]
struct Sample {
    /// Of the call's jobs, which one.
    job: usize,
    /// Which of the job's images, from 0.
    index: usize,
}

/// Images without noise.
struct Denoised {
    samples: Vec<Sample>,
    /// (n·tokens, c), f32
    latents: Wiped,
    context: DenoiseContext,
}

impl<'a, 'w> ActiveJob<'a, 'w> {
    fn begin(
        pipeline: &Pipeline,
        asked: &'a Job<'a>,
        watch: &'w mut dyn ProgressObserver,
    ) -> Result<Self> {
        let started = now(pipeline)?;
        let state = pipeline.encode(asked.prompt.expose(), asked.images, asked.size);
        let spans = vec![(Part::Encode, [started, now(pipeline)?])];
        if let Ok(given) = &state {
            watch.encoded(given.prompt.tokens);
        }
        let mut job = Self { asked, watch, state, steps_done: 0, images: Vec::new(), spans };
        job.tell(Progress::Encoded);
        Ok(job)
    }

    /// The images that are still owed.
    fn indices(&self) -> std::ops::Range<usize> {
        0..if self.state.is_ok() { self.asked.count.get() } else { 0 }
    }

    fn goes_on(&self) -> bool {
        self.state.is_ok()
    }

    fn tell(&mut self, progress: Progress) {
        if self.goes_on() && self.watch.progress(progress).is_break() {
            self.state = Err(Error::Cancelled);
        }
    }

    fn end(self, timings: Timings) -> Result<Generated> {
        let prompt_tokens = self.state?.prompt.tokens;
        Ok(Generated { images: self.images, prompt_tokens, timings })
    }
}

/// All jobs of one call, and what their images have in common.
struct Batcher<'a, 'w> {
    pipeline: &'a Pipeline,
    settings: Settings,
    jobs: Vec<ActiveJob<'a, 'w>>,
}

impl Batcher<'_, '_> {
    /// (n·tokens, c), f32, on the host.
    fn noise(&self, samples: &[Sample]) -> Result<Tensor> {
        let grid = self.pipeline.grid(self.settings.size);
        let seed = |sample: &Sample| self.jobs[sample.job].asked.seed.offset(sample.index);
        let drawn = samples
            .iter()
            .map(|sample| self.pipeline.noise(grid, seed(sample), &Device::Cpu))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&drawn, 0)?)
    }

    /// Takes all steps; `None` where all jobs of the batch ended on the way.
    fn denoise(&mut self, batch: &[Sample], noise: Tensor) -> Result<Option<Denoised>> {
        let pipeline = self.pipeline;
        let started = now(pipeline)?;
        let noise = Wiped(noise.to_device(&pipeline.model.device)?);
        let (mut samples, mut latents) = self.remaining(batch.to_vec(), noise)?;
        let Some(mut context) = self.context(&samples)? else { return Ok(None) };
        let steps = self.settings.steps.get();
        // A GPU is given one step while it computes another, so that it never waits, and no more: what is
        // told has happened, and who leaves is noticed.
        let ahead = usize::from(!pipeline.device().is_cpu());
        let mut under_way = VecDeque::new();
        for step in 0..steps {
            let velocity = Wiped(pipeline.velocity(&context, step, &latents.0)?);
            if step + 1 < steps {
                self.show(&samples, &context, step, [&latents.0, &velocity.0])?;
            }
            latents = Wiped(context.step(step, &latents.0, &velocity.0)?);
            under_way.push_back(now(pipeline)?);
            let left = if step + 1 < steps { ahead } else { 0 };
            while under_way.len() > left
                && let Some(done) = under_way.pop_front()
            {
                done.wait()?;
                self.tell_step(&samples);
            }
            let before = samples.len();
            (samples, latents) = self.remaining(samples, latents)?;
            if samples.len() < before {
                match self.context(&samples)? {
                    Some(of_others) => context = of_others,
                    None => return Ok(None),
                }
            }
        }
        let span = [started, now(pipeline)?];
        for sample in samples.chunk_by(|a, b| a.job == b.job).map(|of_job| of_job[0]) {
            self.jobs[sample.job].spans.push((Part::Denoise, span.clone()));
        }
        Ok(Some(Denoised { samples, latents, context }))
    }

    /// Those whose jobs go on, and their latents (n·tokens, c).
    fn remaining(&self, samples: Vec<Sample>, latents: Wiped) -> Result<(Vec<Sample>, Wiped)> {
        let goes_on = |sample: &Sample| self.jobs[sample.job].goes_on();
        if samples.iter().all(goes_on) {
            return Ok((samples, latents));
        }
        let rows = samples
            .iter()
            .enumerate()
            .filter(|(_, sample)| goes_on(sample))
            .map(|(place, _)| of_one(&latents.0, place, samples.len()))
            .collect::<Result<Vec<_>>>()?;
        // Never a view of what is wiped here.
        let rows = match &rows[..] {
            [] => return Ok((Vec::new(), latents)),
            [alone] => alone.force_contiguous()?,
            rows => Tensor::cat(rows, 0)?,
        };
        Ok((samples.into_iter().filter(goes_on).collect(), Wiped(rows)))
    }

    /// What the steps of these images share; `None` where there are none.
    fn context(&self, samples: &[Sample]) -> Result<Option<DenoiseContext>> {
        let encoded: Vec<&Given> =
            samples.iter().filter_map(|sample| self.jobs[sample.job].state.as_ref().ok()).collect();
        if encoded.is_empty() {
            return Ok(None);
        }
        let mut context = self.pipeline.start(&encoded, &self.settings)?;
        // Drawn once more from the seeds, which costs less than carrying it along where there is no mask.
        let noise = || Ok(self.noise(samples)?.to_device(self.pipeline.device())?);
        context.inpainting = Inpainting::new(&encoded, context.grid.tokens(), noise)?;
        Ok(Some(context))
    }

    /// Offers a look at each image on the way.
    fn show(
        &mut self,
        samples: &[Sample],
        context: &DenoiseContext,
        step: usize,
        [latents, velocity]: [&Tensor; 2],
    ) -> Result<()> {
        let (pipeline, size) = (self.pipeline, self.settings.size);
        for (place, sample) in samples.iter().enumerate() {
            // It may have ended with its image before this one.
            if !self.jobs[sample.job].goes_on() {
                continue;
            }
            let [latents, velocity] =
                [latents, velocity].map(|all| of_one(all, place, samples.len()));
            let (latents, velocity) = (latents?, velocity?);
            let decode = || {
                let clean = Wiped(context.clean(step, (place, &latents), &velocity)?);
                Ok(Image { size, rgb: pipeline.rgb(context, &clean.0)? })
            };
            let job = &mut self.jobs[sample.job];
            if let Err(error) = job.watch.preview(&Preview::new(step + 1, sample.index, &decode)) {
                job.state = Err(error);
            }
        }
        Ok(())
    }

    fn tell_step(&mut self, samples: &[Sample]) {
        for of_job in samples.chunk_by(|a, b| a.job == b.job) {
            let job = &mut self.jobs[of_job[0].job];
            job.steps_done += of_job.len();
            let total = job.asked.count.get() * job.asked.steps.get();
            job.tell(Progress::Step { done: job.steps_done, total });
        }
    }

    fn decode(&mut self, denoised: Option<Denoised>) -> Result<()> {
        let Some(Denoised { samples, latents, context }) = denoised else { return Ok(()) };
        for (place, sample) in samples.iter().enumerate() {
            let job = &mut self.jobs[sample.job];
            if !job.goes_on() {
                continue;
            }
            let started = now(self.pipeline)?;
            let latents = of_one(&latents.0, place, samples.len())?;
            match self.pipeline.rgb(&context, &latents) {
                Ok(rgb) => {
                    let image = Image { size: self.settings.size, rgb };
                    job.watch.image(job.images.len(), &image);
                    job.images.push(image);
                }
                Err(error) => job.state = Err(error),
            }
            job.spans.push((Part::Decode, [started, now(self.pipeline)?]));
            let (done, total) = (job.images.len(), job.asked.count.get());
            job.tell(Progress::Decoded { done, total });
        }
        Ok(())
    }
}

/// Of the rows of so many images, those of one.
fn of_one(all: &Tensor, place: usize, images: usize) -> Result<Tensor> {
    let tokens = all.dim(0)? / images;
    Ok(all.narrow(0, place * tokens, tokens)?)
}

/// Where the device is; a GPU runs behind, and is not waited for.
fn now(pipeline: &Pipeline) -> Result<Rc<Event>> {
    Ok(Rc::new(Event::now(&pipeline.model.device)?))
}
