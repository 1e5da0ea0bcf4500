//! `obscura`: the command line of the confidential image node.

mod args;
mod bench;
mod checked;
mod choices;
mod collateral;
mod decode;
mod demo;
mod device;
mod disclosure;
mod doctor;
#[cfg(feature = "download")]
mod download;
mod evidence;
mod findings;
mod generate;
mod log;
mod machine;
mod marked;
mod measure;
mod model;
mod models;
mod output;
mod preview;
mod probe;
mod process;
mod progress;
mod prospects;
mod proxy;
mod replay;
mod runtime;
mod sandbox;
mod serve;
mod settings;
mod store;
mod suggestion;
mod time;
mod transparency;
mod variables;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

use args::{Args, CollateralCommand, Command, ConfigCommand, Given, ModelsCommand};
use settings::Settings;

/// Wipes every buffer when it is freed. Secrets are wiped by their own types as well; this covers
/// what passes through libraries on the way: HTTP bodies, JSON scratch space, tokenizers. The
/// allocator below guards its own structures, and gives large buffers back when they are freed,
/// which keeps the peak of loading near the size of the weights. It does so without huge pages,
/// which keep whole 2 MiB resident for the little that is left in them, and made loading and
/// decoding slower where we measured.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    let matches = Args::command().get_matches();
    let given = Given::new(&matches);
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if !has_peers(&args.command) {
        // As every tool does, end when nobody reads what is printed (`obscura models list | head`).
        sigpipe::reset();
    }
    // Before anything speaks TLS, a collector's exporter and downloads among them.
    client::install_crypto_provider();
    let done = variables::check(&args.command).and_then(|()| run(args.command, &given));
    match done {
        Ok(code) => code,
        Err(error) => {
            // Much of it may be a stranger's: a node's, a hub's, a file's.
            output::note(format_args!("error: {}", printable::terminal(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, given: &Given) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Proxy(args) => proxy::run(&args),
        Command::Generate(args) => generate::run(&args, given).map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Measure(args) => measure::run(&args),
        Command::Collateral(command) => collateral::run(&command),
        Command::Probe { address } => probe::run(address).map(|()| ExitCode::SUCCESS),
        Command::Tlog(command) => transparency::run(command),
        Command::Config(ConfigCommand::Print(args)) => {
            let settings = Settings::read(&args)?;
            output::print(&settings)?;
            // Behind what was printed, which shows where each comes from.
            settings.checked().map(|_| ExitCode::SUCCESS)
        }
        Command::Config(ConfigCommand::Evidence(args)) => Settings::read(&args)
            .and_then(|settings| settings.node())
            .and_then(|config| output::print(config.evidence()))
            .map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => {
            // It panics where it cannot write, and so writes here first.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "obscura", &mut script);
            output::print(String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
        Command::Models(command) => models::run(command).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

/// Whether a command talks to others. A peer that hangs up must not end it by the signal that is meant
/// for pipes, without a word: it is an error like others. Where only text is left to be written, the
/// command asks for the signal itself. A node never does: losing who reads its log must not end it. Neither
/// does `generate`: its images are worth more than the lines about them.
fn has_peers(command: &Command) -> bool {
    match command {
        Command::Demo(_) | Command::Serve(_) | Command::Proxy(_) | Command::Generate(_) => true,
        Command::Models(command) => matches!(command, ModelsCommand::Download(_)),
        Command::Verify(args) => args.url.is_some(),
        Command::Collateral(command) => matches!(command, CollateralCommand::Fetch(_)),
        _ => false,
    }
}
