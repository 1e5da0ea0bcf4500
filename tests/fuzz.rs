//! The fuzzer's targets over their seeds and a few thousand cheap mutations: no second compiler, no
//! coverage, but every reader of foreign bytes meets broken ones in each run of the tests. What the fuzzer
//! itself finds becomes a test beside the code that it was found in.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

/// Bytes that all executions of a target read together, about.
const BYTES: usize = 4 << 20;
const MAX_EXECUTIONS: usize = 2000;

#[test]
fn every_target_survives_its_seeds_and_their_mutations() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for target in targets::TARGETS {
        let seeds = (target.seeds)(&fixtures);
        assert!(!seeds.is_empty(), "{} starts from nothing", target.name);
        let run = |input: &[u8], execution: usize| {
            let ran = catch_unwind(AssertUnwindSafe(|| targets::run(target.name, input)));
            let start = &input[..input.len().min(400)];
            assert!(
                ran.is_ok(),
                "{}, execution {execution}: {}",
                target.name,
                start.escape_ascii()
            );
        };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for seed in &seeds {
            run(seed, 0);
            let executions = (BYTES / seeds.len() / seed.len().max(1)).min(MAX_EXECUTIONS);
            for execution in 1..=executions {
                let mut input = seed.clone();
                for _ in 0..=random.below(4) {
                    random.mutate(&mut input, &seeds);
                }
                run(&input, execution);
            }
        }
    }
}

/// `scripts/fuzz.sh` finds its targets in `fuzz/Cargo.toml`.
#[test]
fn every_target_is_a_program_of_the_fuzzer() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let mut programs: Vec<_> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|program| Some((program["name"].as_str()?, program.get("path")?.as_str()?)))
        .collect();
    programs.sort_unstable();
    let mut names: Vec<_> = targets::TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(programs.iter().map(|program| program.0).collect::<Vec<_>>(), names);
    for (name, path) in programs {
        let program = std::fs::read_to_string(fuzz.join(path)).unwrap();
        assert!(program.contains(&format!("obscura_fuzz::run(\"{name}\", input)")), "{path}");
    }
}

/// xorshift64, so that a finding comes back.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// A part of so many bytes.
    fn part(&mut self, bytes: usize) -> std::ops::Range<usize> {
        let start = self.below(bytes + 1);
        start..(start + self.below(32)).min(bytes)
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        /// Where arithmetic and text go wrong.
        const ODD: [&[u8]; 12] = [
            &[0xff; 8],
            &[0; 8],
            b"18446744073709551615",
            b"-1",
            b"1e999",
            b"null",
            b"[[[[",
            b"\"",
            b"\\u0000",
            "\u{fdfa}".as_bytes(),
            &[0xc0, 0x80],
            b"{\"a\":",
        ];
        let part = self.part(input.len());
        match self.below(6) {
            0 if !part.is_empty() => input[part.start] ^= 1 << self.below(8),
            1 => drop(input.drain(part)),
            2 => {
                let copy = input[part.clone()].to_vec();
                input.splice(part.start..part.start, copy);
            }
            3 => drop(input.splice(part, ODD[self.below(ODD.len())].iter().copied())),
            4 => input.truncate(part.start),
            _ => {
                let other = &seeds[self.below(seeds.len())];
                let piece = self.part(other.len());
                drop(input.splice(part, other[piece].iter().copied()));
            }
        }
    }
}
