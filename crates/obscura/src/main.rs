//! `obscura`: the command line of the confidential image node.

#![allow(clippy::print_stdout, reason = "a command line prints")]

mod args;
mod demo;
mod device;
mod evidence;
mod generate;
mod model;
mod output;
mod process;
mod progress;
mod serve;
mod verify;

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
        Command::Demo(args) => demo::run(args).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => serve::run(args).map(|()| ExitCode::SUCCESS),
        Command::Generate(args) => generate::run(args).map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
