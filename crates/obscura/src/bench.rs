//! `obscura bench`: how long an image takes a device, from prompt to PNG.

use anyhow::{Context, bail};
use flux::MemoryLimit;
use flux::bench::{BenchConfig, Measured, Stage, measure, median};
use flux::groups;
use printable::Printable;
use protocol::{Count, Format, Steps};
use serde_json::{Map, Value, json};

use crate::{args::BenchArgs, device};

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let off = groups::turned_off()?;
    let device = args.device.open()?;
    let config = BenchConfig {
        preset: args.preset.into(),
        precision: args.dtype.precision(&device),
        size: args.size,
        steps: Steps::new(args.steps).context("--steps")?,
        batch: Count::new(args.batch).context("--batch")?,
        memory_limit: args.memory_limit.map(|limit| MemoryLimit {
            bytes: limit.as_u64(),
            pixels: args.size.pixels() * args.batch.unsigned_abs(),
        }),
        warmups: args.warmups,
        runs: args.runs.max(1),
    };
    let mut bytes = 0;
    let measured = measure(&device, &config, &mut |image| {
        // A failing encoder would make the image look faster than it is.
        bytes = engine::encode(image, Format::Png).map_or(0, |file| file.len());
    })?;
    if bytes == 0 {
        bail!("the image could not be encoded");
    }
    let report = Report::new(device::name(&device)?, &measured, config.batch.get());
    let refusals = groups::refusals();
    if args.json {
        let refusals = refusals.iter().map(|refusal| {
            json!({
                "group": refusal.group.name(), "reason": refusal.reason, "count": refusal.count,
            })
        });
        let mut found = report.to_json();
        found["reference"] = off.names().into();
        found["refusals"] = refusals.collect();
        println!("{found}");
    } else {
        let card = Printable::new(&report.card);
        println!("{card}: {} in {} steps, prompt to PNG", args.size, args.steps);
        report.print_table();
        for refusal in refusals {
            println!("refused: {}, {} times: {}", refusal.group, refusal.count, refusal.reason);
        }
        if off != groups::Groups::default() {
            println!("computed by the reference: {off}");
        }
    }
    Ok(())
}

/// What was measured, in the middle and at the ends.
struct Report<'a> {
    card: String,
    measured: &'a Measured,
    /// Drawn together.
    images: usize,
    /// Of a batch: least, middle, most.
    seconds: [f64; 3],
}

impl<'a> Report<'a> {
    fn new(card: String, measured: &'a Measured, images: usize) -> Self {
        let mut seconds = measured.seconds.clone();
        let middle = median(&mut seconds);
        let end = |value: Option<&f64>| value.copied().unwrap_or_default();
        let (least, most) = (end(seconds.first()), end(seconds.last()));
        Self { card, measured, images, seconds: [least, middle, most] }
    }

    fn to_json(&self) -> Value {
        let [least, middle, most] = self.seconds;
        let each = |seconds| seconds / self.images as f64;
        let stages = &self.measured.stages;
        let of_stages: Map<String, Value> =
            stages.iter().map(|stage| (stage.name.to_owned(), to_json(stage))).collect();
        let teraflop: f64 = stages.iter().map(|stage| stage.teraflop).sum();
        let memory = self.measured.memory;
        json!({
            "card": self.card,
            "batch": self.images,
            "seconds_per_image": each(middle),
            "spread": [each(least), each(most)],
            "runs": self.measured.seconds.len(),
            "stages": of_stages,
            "tflops": teraflop / middle,
            "peak_bytes": memory.map(|memory| memory.peak_bytes),
            "weight_bytes": memory.map(|memory| memory.weight_bytes),
        })
    }

    fn print_table(&self) {
        println!("{:16} {:>10} {:>10} {:>10}", "", "ms", "TFLOP/s", "of floor");
        for stage in &self.measured.stages {
            let rate = rate(stage).map_or("-".to_owned(), |rate| format!("{rate:.2}"));
            let share = share(stage).map_or("-".to_owned(), |share| format!("{:.0}%", 1e2 * share));
            println!("{:16} {:>10.2} {rate:>10} {share:>10}", stage.name, stage.milliseconds);
        }
        let each = |seconds| 1e3 * seconds / self.images as f64;
        let [least, middle, most] = self.seconds.map(each);
        let runs = self.measured.seconds.len();
        println!("an image        {middle:>10.2} ms, {least:.2} to {most:.2} in {runs} runs");
        if self.images > 1 {
            println!("of {} together; the parts above are all of theirs", self.images);
        }
        if let Some(memory) = self.measured.memory {
            let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
            let (peak, weights) = (gib(memory.peak_bytes), gib(memory.weight_bytes));
            println!("memory           {peak:>10.1} GiB at most, {weights:.1} of it weights");
        }
    }
}

fn to_json(stage: &Stage) -> Value {
    json!({
        "milliseconds": stage.milliseconds,
        "tflops": rate(stage),
        "share_of_floor": share(stage),
    })
}

/// In units of 10¹² operations a second.
fn rate(stage: &Stage) -> Option<f64> {
    (stage.teraflop > 0.0).then(|| stage.teraflop / stage.milliseconds * 1e3)
}

/// How near it comes to the least time that it could take an H200: 1 is there.
fn share(stage: &Stage) -> Option<f64> {
    stage.floor_milliseconds.map(|floor| floor / stage.milliseconds)
}
