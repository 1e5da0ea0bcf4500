//! The demo model: its loading, an image of its own size, and one four times as large, where the
//! time goes to attention and convolutions as it does in the true model.

use std::{hint::black_box, ops::ControlFlow, time::Duration};

use candle_core::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use flux::{Job, Pipeline};
use protocol::{Count, Prompt, Seed, Size, Steps};

fn images(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("demo");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("load", |bencher| {
        bencher.iter(|| Pipeline::demo(black_box(&Device::Cpu)).expect("memory"));
    });
    let pipeline = Pipeline::demo(&Device::Cpu).expect("memory");
    let prompt = Prompt::new("a red fox in the snow".to_owned()).expect("a prompt");
    for side in [256, 512] {
        let size = Size::new(side, side).expect("a size");
        let job = Job {
            prompt: &prompt,
            size,
            steps: Steps::STANDARD,
            seed: Seed::new(0),
            count: Count::ONE,
            guidance: flux::GUIDANCE,
            images: &[],
        };
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| {
                pipeline.generate(&job, &mut |_| ControlFlow::Continue(())).expect("an image")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, images);
criterion_main!(benches);
