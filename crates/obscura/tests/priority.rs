//! Whoever asks is answered before pictures are drawn on the same cores.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use program::Program;

#[test]
fn threads_that_compute_give_way() {
    let node = Program::serve(&[], Stdio::null());
    let cores = std::thread::available_parallelism().unwrap().get();
    let deadline = Instant::now() + Duration::from_secs(30);
    // A thread sets its own niceness, soon after it has begun.
    while giving_way(node.id()) != cores {
        assert!(Instant::now() < deadline, "{} of {cores}", giving_way(node.id()));
        thread::sleep(Duration::from_millis(50));
    }
    node.stop();
}

/// How many of a process's threads have a lower priority than others.
fn giving_way(process: u32) -> usize {
    let niceness = |stat: &str| -> i32 {
        // proc(5): the 19th field; the second one, in parentheses, may hold spaces.
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    let threads: Vec<i32> = fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).ok())
        .map(|stat| niceness(&stat))
        .collect();
    let least = threads.iter().min().unwrap();
    threads.iter().filter(|nice| *nice > least).count()
}
