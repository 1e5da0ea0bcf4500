//! From jobs to their pictures.
//!
//! Jobs of one size are drawn together, where the device has room: their pictures' tokens go through the
//! transformer one after the other, in the same products. A picture does not depend on those beside it.

use std::{collections::VecDeque, ops::ControlFlow, rc::Rc};

use candle_core::{Device, Tensor};

use crate::{
    Error, Generated, Job, Picture, Pipeline, Preview, Progress, Result, Timings, Watch,
    clock::Moment,
    job::Part,
    pipeline::{Encoded, Run, Settings, Wiped},
};

impl Pipeline {
    /// Makes the pictures of a job. `watch` is told of each part that is done; where it answers
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
        impl Watch for Told<'_> {
            fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
                (self.0)(progress)
            }
        }
        self.generate_watched(job, &mut Told(watch))
    }

    /// [`Pipeline::generate`] for who wants to see the pictures on the way too.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn generate_watched(
        &self,
        job: &Job<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Generated, Error> {
        let mut made = self.generate_together(&mut [(job, watch)])?;
        made.pop().expect("an answer a job")
    }

    /// Makes the pictures of several jobs, [`Pipeline::together`] of them at a time. Each job has its own
    /// end: stopped, failed or done. On a CPU, in f32, the pictures are bit by bit those of each job
    /// alone; a GPU's libraries may choose other algorithms for more rows, which shows in last bits.
    ///
    /// # Errors
    /// [`Error::MixedBatch`] where jobs differ in what [`Job::goes_with`] compares; otherwise where a
    /// tensor operation fails that all had a part in.
    pub fn generate_together(
        &self,
        jobs: &mut [(&Job<'_>, &mut dyn Watch)],
    ) -> Result<Vec<Result<Generated, Error>>, Error> {
        let Some(((first, _), others)) = jobs.split_first() else { return Ok(Vec::new()) };
        if !others.iter().all(|(job, _)| job.goes_with(first)) {
            return Err(Error::MixedBatch);
        }
        let settings = Settings { size: first.size, steps: first.steps, guidance: first.guidance };
        let mut sittings = Vec::with_capacity(jobs.len());
        for (job, watch) in jobs {
            sittings.push(Sitting::begin(self, job, &mut **watch)?);
        }
        let canvases: Vec<Canvas> = sittings
            .iter()
            .enumerate()
            .flat_map(|(sitting, of)| of.indices().map(move |index| Canvas { sitting, index }))
            .collect();
        let mut easel = Easel { pipeline: self, settings, sittings };
        let mut batches = canvases.chunks(self.together(settings.size).get()).peekable();
        // Noise is drawn on the host, while a GPU is busy with what it was given before.
        let mut noise = batches.peek().map(|batch| easel.noise(batch)).transpose()?;
        while let (Some(batch), Some(drawn)) = (batches.next(), noise.take()) {
            let denoised = easel.denoise(batch, drawn)?;
            noise = batches.peek().map(|batch| easel.noise(batch)).transpose()?;
            easel.decode(denoised)?;
        }
        easel.sittings.into_iter().map(|sitting| sitting.end()).collect()
    }
}

/// One job on its way.
struct Sitting<'a, 'w> {
    job: &'a Job<'a>,
    watch: &'w mut dyn Watch,
    /// Its prompt; or why it ended before all of its pictures were made.
    state: Result<Encoded>,
    /// Over all pictures.
    steps_done: usize,
    pictures: Vec<Picture>,
    laps: Vec<(Part, [Rc<Moment>; 2])>,
}

/// A picture to be drawn.
#[derive(Clone, Copy)]
struct Canvas {
    sitting: usize,
    /// Which of the job's pictures, from 0.
    index: usize,
}

/// Pictures without noise.
struct Denoised {
    canvases: Vec<Canvas>,
    /// (n·tokens, c), f32
    latents: Wiped,
    run: Run,
}

impl<'a, 'w> Sitting<'a, 'w> {
    fn begin(pipeline: &Pipeline, job: &'a Job<'a>, watch: &'w mut dyn Watch) -> Result<Self> {
        let started = now(pipeline)?;
        let state = pipeline.encode(job.prompt.expose());
        let laps = vec![(Part::Encode, [started, now(pipeline)?])];
        let mut sitting = Self { job, watch, state, steps_done: 0, pictures: Vec::new(), laps };
        sitting.tell(Progress::Encoded);
        Ok(sitting)
    }

    /// The pictures that are still owed.
    fn indices(&self) -> std::ops::Range<usize> {
        0..if self.state.is_ok() { self.job.count.get() } else { 0 }
    }

    fn goes_on(&self) -> bool {
        self.state.is_ok()
    }

    fn tell(&mut self, progress: Progress) {
        if self.goes_on() && self.watch.progress(progress).is_break() {
            self.state = Err(Error::Cancelled);
        }
    }

    fn end(self) -> Result<Result<Generated, Error>> {
        let encoded = match self.state {
            Ok(encoded) => encoded,
            Err(error) => return Ok(Err(error)),
        };
        let timings = Timings::of(&self.laps)?;
        Ok(Ok(Generated { pictures: self.pictures, prompt_tokens: encoded.tokens, timings }))
    }
}

/// Where all sit.
struct Easel<'a, 'w> {
    pipeline: &'a Pipeline,
    settings: Settings,
    sittings: Vec<Sitting<'a, 'w>>,
}

impl Easel<'_, '_> {
    /// (n·tokens, c), f32, on the host.
    fn noise(&self, canvases: &[Canvas]) -> Result<Tensor> {
        let grid = self.pipeline.grid(self.settings.size);
        let seed = |canvas: &Canvas| self.sittings[canvas.sitting].job.seed.offset(canvas.index);
        let drawn = canvases
            .iter()
            .map(|canvas| grid.noise(seed(canvas), &Device::Cpu))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&drawn, 0)?)
    }

    /// Takes all steps; `None` where all jobs of the batch ended on the way.
    fn denoise(&mut self, batch: &[Canvas], noise: Tensor) -> Result<Option<Denoised>> {
        let pipeline = self.pipeline;
        let started = now(pipeline)?;
        let noise = Wiped(noise.to_device(&pipeline.model.device)?);
        let (mut canvases, mut latents) = self.remaining(batch.to_vec(), noise)?;
        let Some(mut run) = self.run(&canvases)? else { return Ok(None) };
        let steps = self.settings.steps.get();
        // A GPU is given one step while it computes another, so that it never waits, and no more: what is
        // told has happened, and who leaves is noticed.
        let ahead = usize::from(!pipeline.device().is_cpu());
        let mut under_way = VecDeque::new();
        for step in 0..steps {
            let velocity = Wiped(pipeline.velocity(&run, step, &latents.0)?);
            if step + 1 < steps {
                self.show(&canvases, &run, step, [&latents.0, &velocity.0])?;
            }
            latents = Wiped(run.schedule.step(step, &latents.0, &velocity.0)?);
            under_way.push_back(now(pipeline)?);
            let left = if step + 1 < steps { ahead } else { 0 };
            while under_way.len() > left
                && let Some(done) = under_way.pop_front()
            {
                done.wait()?;
                self.tell_step(&canvases);
            }
            let before = canvases.len();
            (canvases, latents) = self.remaining(canvases, latents)?;
            if canvases.len() < before {
                match self.run(&canvases)? {
                    Some(of_others) => run = of_others,
                    None => return Ok(None),
                }
            }
        }
        let lap = [started, now(pipeline)?];
        for canvas in canvases.chunk_by(|a, b| a.sitting == b.sitting).map(|of_job| of_job[0]) {
            self.sittings[canvas.sitting].laps.push((Part::Denoise, lap.clone()));
        }
        Ok(Some(Denoised { canvases, latents, run }))
    }

    /// Those whose jobs go on, and their latents (n·tokens, c).
    fn remaining(&self, canvases: Vec<Canvas>, latents: Wiped) -> Result<(Vec<Canvas>, Wiped)> {
        let goes_on = |canvas: &Canvas| self.sittings[canvas.sitting].goes_on();
        if canvases.iter().all(goes_on) {
            return Ok((canvases, latents));
        }
        let rows = canvases
            .iter()
            .enumerate()
            .filter(|(_, canvas)| goes_on(canvas))
            .map(|(place, _)| of_one(&latents.0, place, canvases.len()))
            .collect::<Result<Vec<_>>>()?;
        // Never a view of what is wiped here.
        let rows = match &rows[..] {
            [] => return Ok((Vec::new(), latents)),
            [alone] => alone.force_contiguous()?,
            rows => Tensor::cat(rows, 0)?,
        };
        Ok((canvases.into_iter().filter(goes_on).collect(), Wiped(rows)))
    }

    /// What the steps of these pictures share; `None` where there are none.
    fn run(&self, canvases: &[Canvas]) -> Result<Option<Run>> {
        let encoded: Vec<&Encoded> = canvases
            .iter()
            .filter_map(|canvas| self.sittings[canvas.sitting].state.as_ref().ok())
            .collect();
        match &encoded[..] {
            [] => Ok(None),
            encoded => self.pipeline.start(encoded, &self.settings).map(Some),
        }
    }

    /// Offers a look at each picture on the way.
    fn show(
        &mut self,
        canvases: &[Canvas],
        run: &Run,
        step: usize,
        [latents, velocity]: [&Tensor; 2],
    ) -> Result<()> {
        let (pipeline, size) = (self.pipeline, self.settings.size);
        for (place, canvas) in canvases.iter().enumerate() {
            // It may have ended with its picture before this one.
            if !self.sittings[canvas.sitting].goes_on() {
                continue;
            }
            let [latents, velocity] =
                [latents, velocity].map(|all| of_one(all, place, canvases.len()));
            let (latents, velocity) = (latents?, velocity?);
            let decode = || {
                let clean = Wiped(run.schedule.clean(step, &latents, &velocity)?);
                Ok(Picture { size, rgb: pipeline.rgb(run, &clean.0)? })
            };
            let sitting = &mut self.sittings[canvas.sitting];
            if let Err(error) =
                sitting.watch.preview(&Preview::new(step + 1, canvas.index, &decode))
            {
                sitting.state = Err(error);
            }
        }
        Ok(())
    }

    fn tell_step(&mut self, canvases: &[Canvas]) {
        for of_job in canvases.chunk_by(|a, b| a.sitting == b.sitting) {
            let sitting = &mut self.sittings[of_job[0].sitting];
            sitting.steps_done += of_job.len();
            let total = sitting.job.count.get() * sitting.job.steps.get();
            sitting.tell(Progress::Step { done: sitting.steps_done, total });
        }
    }

    fn decode(&mut self, denoised: Option<Denoised>) -> Result<()> {
        let Some(Denoised { canvases, latents, run }) = denoised else { return Ok(()) };
        for (place, canvas) in canvases.iter().enumerate() {
            let sitting = &mut self.sittings[canvas.sitting];
            if !sitting.goes_on() {
                continue;
            }
            let started = now(self.pipeline)?;
            let latents = of_one(&latents.0, place, canvases.len())?;
            match self.pipeline.rgb(&run, &latents) {
                Ok(rgb) => sitting.pictures.push(Picture { size: self.settings.size, rgb }),
                Err(error) => sitting.state = Err(error),
            }
            sitting.laps.push((Part::Decode, [started, now(self.pipeline)?]));
            let (done, total) = (sitting.pictures.len(), sitting.job.count.get());
            sitting.tell(Progress::Decoded { done, total });
        }
        Ok(())
    }
}

/// Of the rows of so many pictures, those of one.
fn of_one(all: &Tensor, place: usize, pictures: usize) -> Result<Tensor> {
    let tokens = all.dim(0)? / pictures;
    Ok(all.narrow(0, place * tokens, tokens)?)
}

/// Where the device is; a GPU runs behind, and is not waited for.
fn now(pipeline: &Pipeline) -> Result<Rc<Moment>> {
    Ok(Rc::new(Moment::now(&pipeline.model.device)?))
}
