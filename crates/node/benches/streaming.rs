//! What streaming costs: the same sealed request for an image of the demo model, answered at once, as
//! a stream with an event a step, and as one with three images on the way, taking turns.
//!
//! `cargo bench -p obscura-node --bench streaming`

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should say so")]
#![allow(clippy::print_stdout, reason = "its result")]

mod bench;

use std::time::Instant;

use serde_json::json;

/// Of each kind; one more of each goes before, uncounted.
const ROUNDS: usize = 15;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let app = bench::drawing();
        let key = bench::node_key(&app).await;
        let kinds = [
            ("at once", json!({ "size": "512x512" })),
            ("with progress", json!({ "size": "512x512", "stream": true, "progress": true })),
            (
                "with three images on the way",
                json!({
                    "size": "512x512", "stream": true, "partial_images": 3,
                }),
            ),
        ];
        let mut took = vec![Vec::new(); kinds.len()];
        for round in 0..=ROUNDS {
            for ((_, fields), took) in kinds.iter().zip(&mut took) {
                let body = bench::sealed_with(&key, fields.clone());
                let started = Instant::now();
                bench::generate(&app, body).await;
                if round > 0 {
                    took.push(started.elapsed().as_secs_f64());
                }
            }
        }
        let medians: Vec<f64> = took.iter_mut().map(|took| median(took)).collect();
        for ((name, _), median) in kinds.iter().zip(&medians) {
            println!("{name}: {:.3} s, {:.3} of the first", median, median / medians[0]);
        }
    });
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
