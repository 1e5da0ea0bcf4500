//! Everything the node adds around generation for a 1024² image: HTTP, JSON, open, encode PNG,
//! pad, hash, sign, seal. Target: ≤ 60 ms on one core.
//!
//! `taskset -c 0 cargo bench -p obscura-node --bench around`

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should say so")]

mod bench;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use engine::{Image, encode};
use protocol::{Format, Size};

fn around(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let size = Size::new(1024, 1024).unwrap();
    let pixels = bench::image(size);
    let app = bench::stand(size, pixels.clone());
    let key = runtime.block_on(bench::node_key(&app));

    let mut group = criterion.benchmark_group("1024x1024");
    group.bench_function("confidential request, answered", |bench| {
        bench.iter_batched(
            || bench::sealed(&key),
            |body| runtime.block_on(bench::generate(&app, body)),
            BatchSize::PerIteration,
        );
    });
    let image = Image { size, rgb: pixels.into() };
    group.bench_function("of which: encode PNG", |bench| {
        bench.iter(|| encode(&image, Format::Png).unwrap());
    });
    group.finish();
}

criterion_group!(benches, around);
criterion_main!(benches);
