//! What can be said on the command line: the commands here, what each takes in a module of its own.

mod collateral;
mod device;
mod generate;
mod models;
mod provenance;
mod serve;
mod trust;

use std::{collections::BTreeSet, net::SocketAddr};

use clap::{ArgMatches, Parser, Subcommand, parser::ValueSource};

pub(crate) use self::{
    collateral::{CollateralCommand, CollateralFetchArgs},
    device::{BenchArgs, DoctorArgs},
    generate::{GenerateArgs, SeedChoice, TimingsForm},
    models::{DownloadArgs, ModelArgs, ModelsCommand},
    provenance::{ProvenanceChoice, ReplayArgs},
    serve::{ConfigCommand, DemoArgs, ServeArgs},
    trust::{ProxyArgs, TrustArgs, VerifyArgs},
};
use crate::{measure::MeasureArgs, transparency::TlogCommand};

/// Help is no wider than is well read, however wide the terminal is.
const MAX_HELP_COLUMNS: usize = 100;

/// A node that makes images from prompts its own operator cannot read.
#[derive(Parser)]
#[command(version = node::VERSION, propagate_version = true, max_term_width = MAX_HELP_COLUMNS)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start a node with the demo model, send it one private request, keep serving
    Demo(DemoArgs),
    /// Serve a model
    Serve(ServeArgs),
    /// Stand beside programs that speak OpenAI's image API: verify nodes, seal to them. Exits 10 where no
    /// node can be trusted at the start (20 unsupported, 30 malformed evidence)
    Proxy(ProxyArgs),
    /// Make images: in this process, or privately on a node
    Generate(Box<GenerateArgs>),
    /// Ask a node for evidence, and judge it. Exits 0 accepted, 10 rejected, 20 unsupported,
    /// 30 malformed
    Verify(VerifyArgs),
    /// Draw an image again from its receipt and prompt, and say whether the receipt is true. Exits 0 true,
    /// 10 false, 20 unsupported, 30 malformed
    Replay(Box<ReplayArgs>),
    /// Compute the registers that a guest will measure into, from its files, as entries of a policy.
    /// Exits 10 where a log differs, 30 where an input is malformed
    Measure(Box<MeasureArgs>),
    /// A transparency log of releases, model manifests and policies
    #[command(subcommand)]
    Tlog(TlogCommand),
    /// Ask whether a node is ready, for health checks. Exits 1 where it is not
    Probe {
        /// Where the node answers in clear text: `listen`, or `health_listen` where TLS ends in the node
        #[arg(default_value = "127.0.0.1:8080", value_parser = node::parse_listen)]
        address: SocketAddr,
    },
    /// What `obscura serve` would be told
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what makes a shell complete this command line
    Completions {
        /// bash, elvish, fish, powershell, zsh
        shell: clap_complete::Shell,
    },
    /// Which models there are, and which bytes they are made of
    #[command(subcommand)]
    Models(ModelsCommand),
    /// What quotes are verified with: fetch it from the hardware's maker, show when it is due. `show` exits 10
    /// where it is overdue
    #[command(subcommand)]
    Collateral(CollateralCommand),
    /// Say what the machine lacks and what can be done with it; compare every kernel of a device with its
    /// reference. Exits 0 where all of them agree, 1 otherwise
    Doctor(DoctorArgs),
    /// Measure how long an image takes a device; large models have random weights made there
    Bench(BenchArgs),
}

/// The flags that the command line itself names. What the environment says holds for every command, and is
/// no slip where one does not look at it.
pub(crate) struct Given(BTreeSet<String>);

impl Given {
    /// Those of the subcommand.
    pub(crate) fn new(matches: &ArgMatches) -> Self {
        let Some((_, matches)) = matches.subcommand() else { return Self(BTreeSet::new()) };
        let said = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        Self(matches.ids().map(clap::Id::as_str).filter(said).map(str::to_owned).collect())
    }

    /// By the name of its field.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.0.contains(flag)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_is_no_wider_than_its_terminal() {
        fn check(mut command: clap::Command, columns: usize) {
            let help = command.render_long_help().to_string();
            // clap wraps everything but how a command is called.
            for line in help.lines().filter(|line| !line.starts_with("Usage:")) {
                assert!(line.chars().count() <= columns, "{}: {line}", command.get_name());
            }
            for command in command.get_subcommands() {
                check(command.clone(), columns);
            }
        }
        for columns in [60, 80, 100] {
            let mut command = Args::command().term_width(columns);
            // Which gives the width on to its subcommands.
            command.build();
            check(command, columns);
        }
    }
}
