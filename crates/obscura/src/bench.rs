//! `obscura bench`: how long a picture takes a GPU, from prompt to PNG.

use anyhow::{Context, bail};
use flux::gpu::{
    self,
    bench::{Measured, Protocol, Stage, Tier, measure, median},
};
use protocol::Steps;
use serde_json::{Map, Value, json};

use crate::{
    args::{BenchArgs, DTypeChoice},
    device,
};

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let device = device::gpu(args.gpu)?;
    let protocol = Protocol {
        tier: match args.dtype {
            DTypeChoice::Auto | DTypeChoice::Bf16 => Tier::Bf16,
            DTypeChoice::Fp8 => Tier::Fp8,
            DTypeChoice::F32 => bail!("bench measures bf16 and fp8"),
        },
        size: args.size,
        steps: Steps::new(args.steps).context("--steps")?,
        warmups: args.warmups,
        runs: args.runs.max(1),
    };
    let mut bytes = 0;
    let measured = measure(&device, &protocol, &mut |picture| {
        // A failing encoder would make the picture look faster than it is.
        bytes = node::encode(picture, node::Format::Png).map_or(0, |file| file.len());
    })?;
    if bytes == 0 {
        bail!("the picture could not be encoded");
    }
    let card = gpu::card(&device)?;
    if args.json {
        println!("{}", to_json(&card.name, &measured));
    } else {
        print_table(&card.name, args, &measured);
    }
    Ok(())
}

fn to_json(card: &str, measured: &Measured) -> Value {
    let stages: Map<String, Value> =
        measured.stages.iter().map(|stage| (stage.name.to_owned(), of_stage(stage))).collect();
    let mut seconds = measured.seconds.clone();
    let middle = median(&mut seconds);
    let teraflop: f64 = measured.stages.iter().map(|stage| stage.teraflop).sum();
    json!({
        "card": card,
        "seconds_per_image": middle,
        "spread": [seconds.first(), seconds.last()],
        "stages": stages,
        "tflops": teraflop / middle,
        "peak_bytes": measured.peak_bytes,
        "weight_bytes": measured.weight_bytes,
    })
}

fn of_stage(stage: &Stage) -> Value {
    json!({
        "milliseconds": stage.milliseconds,
        "tflops": stage.teraflop / stage.milliseconds * 1e3,
        "share_of_floor": stage.floor_milliseconds / stage.milliseconds,
    })
}

fn print_table(card: &str, args: &BenchArgs, measured: &Measured) {
    let mut seconds = measured.seconds.clone();
    let middle = median(&mut seconds);
    println!("{card}: {} in {} steps, prompt to PNG", args.size, args.steps);
    println!("{:16} {:>10} {:>10} {:>10}", "", "ms", "TFLOP/s", "of floor");
    for stage in &measured.stages {
        println!(
            "{:16} {:>10.2} {:>10.0} {:>9.0}%",
            stage.name,
            stage.milliseconds,
            stage.teraflop / stage.milliseconds * 1e3,
            100.0 * stage.floor_milliseconds / stage.milliseconds
        );
    }
    let (least, most) = (seconds.first(), seconds.last());
    println!(
        "a picture        {:>10.2} ms, {:.2} to {:.2} in {} runs",
        1e3 * middle,
        1e3 * least.copied().unwrap_or_default(),
        1e3 * most.copied().unwrap_or_default(),
        seconds.len()
    );
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    println!(
        "memory           {:>10.1} GiB at most, {:.1} of it weights",
        gib(measured.peak_bytes),
        gib(measured.weight_bytes)
    );
}
