//! Whether the node's memory grows: its resident size after each of some thousand requests. Large buffers
//! that were freed a moment ago are sometimes in it and sometimes not.
//!
//! `cargo bench -p obscura-node --bench memory`

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should say so")]
#![allow(clippy::print_stdout, reason = "its result")]

mod bench;

use protocol::Size;

const ROUNDS: usize = 16;
const REQUESTS: usize = 1000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let size = Size::new(512, 512).unwrap();
    let app = bench::stand(size, bench::image(size));
    let key = runtime.block_on(bench::node_key(&app));
    let run = |requests: usize| {
        for _ in 0..requests {
            runtime.block_on(bench::generate(&app, bench::sealed(&key)));
        }
        resident_kib()
    };
    let resident: Vec<i64> = (0..=ROUNDS).map(|_| run(REQUESTS)).collect();
    println!("KiB resident after each {REQUESTS} requests: {resident:?}");
}

/// `VmRSS` of this process, proc(5).
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
