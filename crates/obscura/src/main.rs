//! `obscura`: the command line of the confidential image node.

#![allow(clippy::print_stdout, reason = "a command line prints")]

mod args;
#[cfg(feature = "cuda")]
mod bench;
mod demo;
mod device;
#[cfg(feature = "cuda")]
mod doctor;
mod generate;
mod model;
mod models;
mod output;
mod process;
mod progress;
mod serve;
mod store;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// Wipes every buffer when it is freed. Secrets are wiped by their own types as well; this covers
/// what passes through libraries on the way: HTTP bodies, JSON scratch space, tokenizers.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Models(command) => models::run(command),
        #[cfg(feature = "cuda")]
        Command::Doctor(args) => doctor::run(&args),
        #[cfg(feature = "cuda")]
        Command::Bench(args) => bench::run(&args),
        #[cfg(not(feature = "cuda"))]
        Command::Doctor(_) | Command::Bench(_) => Err(device::without_cuda()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
