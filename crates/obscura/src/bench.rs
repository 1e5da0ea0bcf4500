//! `obscura bench`: how long an image takes a device, from prompt to PNG.

use anyhow::{Context, bail, ensure};
use flux::bench::{BenchConfig, Blocks, Measured, Preset, Stage, measure, median};
use flux::groups;
use flux::{HostMemory, LargestBatch, MemoryLimit};
use printable::Printable;
use protocol::{Count, Format, Steps};
use serde_json::{Map, Value, json};

use crate::{
    args::BenchArgs,
    device,
    output::say,
    progress::{Phase, Progress},
};

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let off = groups::turned_off()?;
    let device = args.device.open()?;
    let preset = args.preset.into();
    let images = args.batch.unsigned_abs();
    let batch = LargestBatch { images, pixels: args.size.pixels().saturating_mul(images) };
    let config = BenchConfig {
        preset,
        blocks: args.blocks.map(|blocks| known(blocks, preset)).transpose()?,
        precision: args.dtype.precision(&device)?,
        size: args.size,
        steps: Steps::new(args.steps).context("--steps")?,
        batch: Count::new(args.batch).context("--batch")?,
        memory_limit: args.memory_limit.map(|limit| MemoryLimit { bytes: limit.as_u64(), batch }),
        warmups: args.warmups,
        runs: args.runs.max(1),
    };
    if device.is_cpu() {
        let weights = preset.cpu_weight_bytes(config.blocks, config.precision);
        let working = preset.cpu_working_bytes(config.precision, batch);
        // Within a limit, images are decoded in tiles where they would exceed it.
        let most = args.memory_limit.map_or(u64::MAX, |limit| limit.as_u64());
        let working = working.min(most.saturating_sub(weights));
        refuse_without_room(weights, working, HostMemory::of_this_machine().available_bytes)?;
    }
    let mut bytes = 0;
    let progress = Progress::begin(Phase::Preparing);
    let measured = measure(&device, &config, &mut |image| {
        // A failing encoder would make the image look faster than it is.
        bytes = engine::encode(image, Format::Png).map_or(0, |file| file.len());
    })?;
    drop(progress);
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
        if let Some(Blocks { double, single }) = config.blocks {
            found["blocks"] = json!([double, single]);
        }
        found["reference"] = off.names().into();
        found["refusals"] = refusals.collect();
        say(&found)?;
    } else {
        let card = Printable::new(&report.card);
        let part = args.blocks.map_or(String::new(), |Blocks { double, single }| {
            format!(", a part: {double} double and {single} single blocks")
        });
        let (size, steps) = (args.size, args.steps);
        say(format_args!("{card}: {size} in {steps} steps, prompt to PNG{part}"))?;
        report.print_table()?;
        for refusal in refusals {
            let (group, count) = (refusal.group, refusal.count);
            say(format_args!("refused: {group}, {count} times: {}", refusal.reason))?;
        }
        if off != groups::Groups::default() {
            say(format_args!("computed by the reference: {off}"))?;
        }
    }
    Ok(())
}

/// Fewer than the published model has, and of both kinds.
fn known(asked: Blocks, preset: Preset) -> anyhow::Result<Blocks> {
    let all = preset.blocks().context("--blocks: the demo model is measured whole")?;
    ensure!(
        (1..=all.double).contains(&asked.double) && (1..=all.single).contains(&asked.single),
        "--blocks {},{}: that model has {},{}, and at least 1,1 are drawn with",
        asked.double,
        asked.single,
        all.double,
        all.single
    );
    Ok(asked)
}

/// A machine that runs out of memory takes others' programs down with this one: it is asked first.
fn refuse_without_room(weights: u64, working: u64, available: Option<u64>) -> anyhow::Result<()> {
    /// Beside the weights, however small the images are: what lies between layers, the program, its buffers.
    const LEAST_WORKING: u64 = 1_500_000_000;
    // The demo model takes little, and little beside it.
    let working = working.max(LEAST_WORKING.min(weights));
    let Some(available) = available else { return Ok(()) };
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    ensure!(
        weights.saturating_add(working) <= available,
        "the weights take {:.0} GB, drawing {:.1} GB beside them, and {:.0} GB of memory are available: smaller \
         images or a smaller --batch take less, --preset small is for CPUs, --blocks 1,2 measures a part, --dtype \
         bf16 takes half of f32 and int8 a quarter, a GPU has memory of its own",
        gigabytes(weights),
        gigabytes(working),
        gigabytes(available)
    );
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

    fn print_table(&self) -> anyhow::Result<()> {
        say(format_args!("{:16} {:>10} {:>10}", "", "ms", "TFLOP/s"))?;
        for stage in &self.measured.stages {
            let rate = rate(stage).map_or("-".to_owned(), |rate| format!("{rate:.2}"));
            let (name, milliseconds) = (stage.name, stage.milliseconds);
            say(format_args!("{name:16} {milliseconds:>10.2} {rate:>10}"))?;
        }
        let each = |seconds| 1e3 * seconds / self.images as f64;
        let [least, middle, most] = self.seconds.map(each);
        let runs = self.measured.seconds.len();
        say(format_args!(
            "an image        {middle:>10.2} ms, {least:.2} to {most:.2} in {runs} runs"
        ))?;
        if self.images > 1 {
            say(format_args!("of {} together; the parts above are all of theirs", self.images))?;
        }
        if let Some(memory) = self.measured.memory {
            let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
            let (peak, weights) = (gib(memory.peak_bytes), gib(memory.weight_bytes));
            say(format_args!(
                "memory           {peak:>10.1} GiB at most, {weights:.1} of it weights"
            ))?;
        }
        Ok(())
    }
}

fn to_json(stage: &Stage) -> Value {
    json!({
        "milliseconds": stage.milliseconds,
        "tflops": rate(stage),
    })
}

/// In units of 10¹² operations a second.
fn rate(stage: &Stage) -> Option<f64> {
    (stage.teraflop > 0.0).then(|| stage.teraflop / stage.milliseconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_room_is_told_so_first() {
        const GB: u64 = 1_000_000_000;
        let schnell = Preset::Schnell.cpu_weight_bytes(None, flux::Precision::F32);
        assert_eq!(schnell / GB, 67);
        let said = refuse_without_room(schnell, 4 * GB, Some(8 * GB)).unwrap_err().to_string();
        assert!(said.contains("67 GB") && said.contains("--preset small"), "{said}");
        for available in [Some(100 * GB), None] {
            refuse_without_room(schnell, 4 * GB, available).unwrap();
        }
        // However small an image is, something is taken.
        assert!(refuse_without_room(schnell, 0, Some(schnell + GB)).is_err());
        refuse_without_room(20_000_000, 0, Some(GB)).unwrap();
    }

    /// FLUX.1-schnell in int8 has 17.9 GB.
    #[test]
    fn size_and_batch_count_beside_the_weights() {
        let fits = |images, side: u64, available| {
            let precision = flux::Precision::Int8;
            let weights = Preset::Schnell.cpu_weight_bytes(None, precision);
            let batch = LargestBatch { images, pixels: images * side * side };
            let working = Preset::Schnell.cpu_working_bytes(precision, batch);
            refuse_without_room(weights, working, Some(available)).is_ok()
        };
        const MACHINE: u64 = 23 << 30;
        assert!(fits(1, 512, MACHINE) && fits(1, 1024, MACHINE));
        assert!(!fits(1, 2048, MACHINE) && !fits(8, 1024, MACHINE));
        assert!(fits(1, 2048, 2 * MACHINE));
    }
}
