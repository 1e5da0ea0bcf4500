//! Whether the node's memory grows: resident size after a warm-up, and after 1,000 requests more.
//!
//! `cargo bench -p node --bench memory`

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should say so")]
#![allow(clippy::print_stdout, reason = "its result")]

mod bench;

use protocol::Size;

const WARM_UP: usize = 1000;
const REQUESTS: usize = 4000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let size = Size::new(512, 512).unwrap();
    let app = bench::stand(size, bench::picture(size));
    let key = runtime.block_on(bench::node_key(&app));
    let run = |requests: usize| {
        for _ in 0..requests {
            runtime.block_on(bench::generate(&app, bench::sealed(&key)));
        }
        resident_kib()
    };
    let before = run(WARM_UP);
    let after = run(REQUESTS);
    println!(
        "resident: {before} KiB after {WARM_UP} requests, {after} KiB after {REQUESTS} more: \
         {:+} KiB, {:+.1} %",
        after - before,
        (after - before) as f64 / before as f64 * 100.0
    );
}

/// `VmRSS` of this process, proc(5).
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
