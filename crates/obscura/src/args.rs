//! What can be said on the command line.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, str::FromStr};

use attest::{PlatformChoice, binding::Nonce, collateral};
use bytesize::ByteSize;
use clap::{ArgMatches, Parser, Subcommand, ValueEnum, parser::ValueSource};
use protocol::{InvalidSize, Size};

use crate::{
    choices::{FormatChoice, QualityChoice, StyleChoice},
    device::{DTypeChoice, DeviceChoice},
    log::{LogFilter, LogFormat},
    measure::MeasureArgs,
    preview::PreviewChoice,
    time::At,
    transparency::TlogCommand,
};

/// A node that makes images from prompts its own operator cannot read.
#[derive(Parser)]
#[command(version, propagate_version = true)]
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

#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// Print the models that are known by name
    List,
    /// Fetch a known model's files, hold each against its digest, and pin them
    Download(DownloadArgs),
    /// Hash every file of a model directory that loading reads, and write its manifest
    Pin {
        /// The model directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Where to write [default: obscura.toml in the directory, where loading finds it]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Hash every file again and compare with a manifest
    Check {
        /// The model directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The manifest [default: obscura.toml in the directory]
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum CollateralCommand {
    /// Fetch what this machine's quotes are verified with, and write it in place of the older file
    Fetch(CollateralFetchArgs),
    /// Print what a file of collateral is of, and until when each part of it holds
    Show {
        /// The file that the configuration's `collateral` names
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct CollateralFetchArgs {
    /// Where to write: what the configuration's `collateral` names
    #[arg(long, short, value_name = "FILE", default_value = "/etc/obscura/collateral.json")]
    pub(crate) output: PathBuf,
    /// Whose quotes: auto, tdx, snp
    #[arg(long, value_name = "TEE", default_value = "auto")]
    pub(crate) tee: PlatformChoice,
    /// A quote of the machine, instead of asking this machine for one: a TDX quote, or a SEV-SNP report
    #[arg(long, value_name = "FILE")]
    pub(crate) quote: Option<PathBuf>,
    /// Intel's service, or a PCCS that keeps its documents
    #[arg(long, value_name = "URL", default_value = collateral::INTEL_PCS)]
    pub(crate) pccs: String,
    /// AMD's service, or what stands in for it
    #[arg(long, value_name = "URL", default_value = collateral::AMD_KDS)]
    pub(crate) kds: String,
    /// The generation of AMD's processors, where the report does not say it (version 2)
    #[arg(long, value_name = "NAME")]
    pub(crate) generation: Option<collateral::Generation>,
}

#[derive(clap::Args)]
pub(crate) struct DownloadArgs {
    /// A known model's name (see `obscura models list`)
    #[arg(value_name = "NAME", required_unless_present = "manifest")]
    pub(crate) name: Option<String>,
    /// Another commit, branch or tag of its repository; known digests must hold all the same
    /// [default: the commit that the manifest names]
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,
    /// Where the model is to lie [default: where loading by its name looks]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// DANGEROUS: send the token to an HF_ENDPOINT of plain http:// on another machine too, where
    /// everyone on the way can read it
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// Fetch what this manifest lists, instead of a known model
    #[arg(long, value_name = "FILE", hide = true, requires = "dir", conflicts_with = "name")]
    pub(crate) manifest: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// What to draw
    #[arg(default_value = "a small yellow star above a red house on a green field")]
    pub(crate) prompt: String,
    /// Stop after the image
    #[arg(long)]
    pub(crate) once: bool,
    /// Where to listen; another free port is taken where this one is in use
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = node::parse_listen)]
    pub(crate) listen: SocketAddr,
    /// Where to write the image: PNG, JPEG or WebP by the ending
    /// [default: obscura-demo.png, or the next free number]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file where it is there already
    #[arg(long)]
    pub(crate) force: bool,
    /// Seed of the image; drawn where absent, or -1
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) seed: Option<SeedChoice>,
}

/// Each of these has an environment variable, `OBSCURA_` and its name, and a key in the TOML file;
/// the file and `--set` know more keys than there are flags. See `obscura config print`.
#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// A TOML file of settings
    #[arg(long, value_name = "FILE", env = "OBSCURA_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// `demo`, a known model's name (see `obscura models list`), or a model directory
    /// [default: demo]
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) model: Option<String>,
    /// The name that requests use for the model [default: obscura/demo, or the directory's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) model_id: Option<String>,
    /// auto, cpu, cuda:N; several, with commas between, are an engine each [default: auto]
    #[arg(long, value_name = "DEVICES")]
    pub(crate) device: Option<String>,
    /// The type that weights are computed in: auto, f32, bf16, fp8 [default: auto]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,
    /// Load exactly the bytes that this manifest pins [default: the directory's obscura.toml, if any]
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<String>,
    /// How much of each device's memory to take, such as 30GB: the text encoders then rest in the host's
    /// where they must, and large images are decoded in tiles [default: as much as there is]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<String>,
    /// Where evidence comes from: auto, tdx, snp, simulated [default: auto]
    #[arg(long, value_name = "TEE")]
    pub(crate) tee: Option<String>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Serve OpenAI's route in clear text too
    #[arg(long)]
    pub(crate) allow_plaintext: bool,
    /// Requests that may wait while every engine has one [default: 32]
    #[arg(long, value_name = "N")]
    pub(crate) queue_capacity: Option<String>,
    /// The form of the log: text, json [default: text]
    #[arg(long, value_name = "FORM")]
    pub(crate) log_format: Option<String>,
    /// Any other setting, by its key in the file; a list has commas between
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting of `obscura serve`, and whether it comes from a flag, the environment, the
    /// file, or is the default
    Print(ServeArgs),
    /// Print what of them can change who reads a prompt, as evidence tells it; its SHA-256 goes into a
    /// policy's `configuration.digests`
    Evidence(ServeArgs),
}

#[derive(clap::Args)]
pub(crate) struct GenerateArgs {
    /// What to draw; `-` reads prompts from standard input, a line each
    #[arg(required_unless_present = "prompts")]
    pub(crate) prompt: Option<String>,
    /// Read prompts from this file, a line each; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) prompts: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Ask the node at this URL, privately, instead of drawing in this process
    #[arg(long, value_name = "URL")]
    pub(crate) node: Option<String>,
    /// The node's name for the model [default: the only one that it has]
    #[arg(long, value_name = "NAME")]
    pub(crate) model_id: Option<String>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// The node's bearer key
    #[arg(long, value_name = "KEY", env = "OBSCURA_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// DANGEROUS: send the bearer key over plain http:// to another machine too, where everyone on the
    /// way can read it
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// The image's size [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(crate) size: Option<Size>,
    /// Sampler steps, 1 to 50 [default: those of --quality]
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) steps: Option<i64>,
    /// How much work goes into an image
    #[arg(long, default_value = "medium")]
    pub(crate) quality: QualityChoice,
    /// Whether the prompt is added to
    #[arg(long, default_value = "natural")]
    pub(crate) style: StyleChoice,
    /// Seed of the first image of each prompt; drawn where absent, or -1. Image i has seed + i
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) seed: Option<SeedChoice>,
    /// Guidance scale, for models that take one (FLUX.1-dev) [default: 3.5]
    #[arg(long, allow_negative_numbers = true, value_parser = guidance)]
    pub(crate) guidance: Option<f32>,
    /// How many images of each prompt, 1 to 10
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) n: i64,
    /// Where to write: PNG, JPEG or WebP by the ending; `-` is standard output. Of several images, the
    /// second and later get a number [default: obscura.png, or the next free number]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The format where no file's ending says it [default: png]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<FormatChoice>,
    /// Replace files that are there already
    #[arg(long)]
    pub(crate) force: bool,
    /// Print an object a line: one of each image as soon as its file is there, and a summary
    #[arg(long)]
    pub(crate) json: bool,
    /// Show images, and what becomes of them on the way, in the terminal; each look on the way is as
    /// much work as decoding an image
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) preview: PreviewChoice,
    /// Print times as the last line of standard output
    #[arg(long, value_name = "FORM", conflicts_with = "json")]
    pub(crate) timings: Option<TimingsForm>,
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

/// A seed, or none: as requests have it, -1 leaves it to whoever draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeedChoice(pub(crate) Option<u64>);

impl FromStr for SeedChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-1" => Ok(Self(None)),
            _ => text.parse().map(|seed| Self(Some(seed))).map_err(|_| {
                format!("must be a whole number from 0 to {}, or -1 for any seed", u64::MAX)
            }),
        }
    }
}

/// A size; where it is nearly one, the error says which would do.
fn size(text: &str) -> Result<Size, String> {
    text.parse().map_err(|error: InvalidSize| {
        let side = |side: &str| {
            let side: u64 = side.parse().ok()?;
            let multiple = u64::from(Size::MULTIPLE_PX);
            let nearest = (side.saturating_add(multiple / 2)) / multiple * multiple;
            Some(nearest.clamp(multiple, Size::MAX_SIDE_PX.into()))
        };
        let nearest =
            text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
        match nearest {
            Some((width, height)) => format!("{error}; {width}x{height} would do"),
            None => error.to_string(),
        }
    })
}

fn guidance(text: &str) -> Result<f32, String> {
    let scale = text.parse::<f64>().map_err(|_| "must be a number such as 3.5".to_owned())?;
    match protocol::Guidance::new(scale) {
        Ok(scale) => Ok(scale.get()),
        Err(_) => Err(format!("must be from 0 to {}", protocol::Guidance::MAX)),
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TimingsForm {
    Json,
}

#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// The node to ask
    #[arg(value_name = "URL", required_unless_present = "report", conflicts_with = "report")]
    pub(crate) url: Option<String>,
    /// A report that was saved, instead of asking a node
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// The nonce that the report was asked with [default: a fresh one, where a node is asked]
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: Option<Nonce>,
    /// When to judge, for an audit: RFC 3339, such as 2027-01-15T08:00:00Z, or seconds since 1970
    /// [default: now, by this machine's clock]
    #[arg(long, value_name = "TIME", conflicts_with = "url")]
    pub(crate) at: Option<At>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// Keep the report, for an audit
    #[arg(long, value_name = "FILE", conflicts_with = "report")]
    pub(crate) save: Option<PathBuf>,
    /// Judge by the policy only if this proof shows that it is in a transparency log; `obscura tlog prove`
    /// prints one
    #[arg(long, value_name = "FILE", requires = "log_trust", requires = "policy")]
    pub(crate) log_proof: Option<PathBuf>,
    /// Whose logs are believed: lines of `log KEY`, `witness KEY`, `quorum N`
    #[arg(long, value_name = "FILE", requires = "log_proof")]
    pub(crate) log_trust: Option<PathBuf>,
    /// Print the verdict as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct ProxyArgs {
    /// Where sealed requests go; given several times, any of them may answer
    #[arg(long = "node", value_name = "URL", required = true)]
    pub(crate) nodes: Vec<String>,
    /// Where evidence comes from, where nodes give it elsewhere than they take requests; as many as there
    /// are nodes, in their order
    #[arg(long, value_name = "URL", conflicts_with = "require_attested_tls")]
    pub(crate) evidence: Vec<String>,
    /// Where programs reach the proxy; beyond loopback only with --client-key-file
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3300", value_parser = node::parse_listen)]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// A file with the bearer key that the nodes ask for [default: each program's own key is passed on]
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// A file with the bearer key that programs need to use the proxy; it is never passed on
    #[arg(long, value_name = "FILE")]
    pub(crate) client_key_file: Option<PathBuf>,
    /// DANGEROUS: send the nodes' bearer key over plain http:// to another machine too, where everyone on
    /// the way can read it
    #[arg(long, requires = "api_key_file")]
    pub(crate) insecure_http: bool,
    /// Keep every report that is judged in this folder, and its verdict
    #[arg(long, value_name = "DIR")]
    pub(crate) audit: Option<PathBuf>,
    /// Open the page with the verdict in the browser, which can send no key
    #[arg(long, conflicts_with = "client_key_file")]
    pub(crate) open: bool,
    /// What is logged: LEVEL or MODULE=LEVEL, with commas between
    #[arg(long, value_name = "FILTER", env = "OBSCURA_LOG", default_value = "info")]
    pub(crate) log: LogFilter,
    /// The form of the log
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// What evidence has to show.
#[derive(clap::Args)]
pub(crate) struct TrustArgs {
    /// What to trust instead of this release's own policy
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// DANGEROUS: trust simulated nodes too, whose operators can read every prompt
    #[arg(long)]
    pub(crate) accept_simulated: bool,
    /// Refuse connections that do not end at the TLS key that the evidence names, such as those through a
    /// gateway with a certificate of its own
    #[arg(long)]
    pub(crate) require_attested_tls: bool,
}

#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// `demo`, a known model's name (see `obscura models list`), or a model directory
    #[arg(long, value_name = "NAME|DIR", default_value = "demo", env = "OBSCURA_MODEL")]
    pub(crate) model: String,
    /// auto, cpu, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto", env = "OBSCURA_DEVICE")]
    pub(crate) device: DeviceChoice,
    /// The type that weights are computed in
    #[arg(long, value_name = "TYPE", default_value = "auto", env = "OBSCURA_DTYPE")]
    pub(crate) dtype: DTypeChoice,
    /// Load exactly the bytes that this manifest pins [default: the directory's obscura.toml, if any]
    #[arg(long, value_name = "FILE", env = "OBSCURA_MANIFEST")]
    pub(crate) manifest: Option<PathBuf>,
    /// How much of the device's memory to take, such as 30GB: the text encoders then rest in the host's
    /// where they must, and large images are decoded in tiles [default: as much as there is]
    #[arg(long, value_name = "SIZE", env = "OBSCURA_MEMORY_LIMIT")]
    pub(crate) memory_limit: Option<ByteSize>,
}

#[derive(clap::Args)]
pub(crate) struct DoctorArgs {
    /// auto, cpu, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// A GPU and nothing else: the first one, or the one of this number
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "0", conflicts_with = "device")]
    pub(crate) gpu: Option<usize>,
    /// The short form that every start of a node on a GPU runs, instead of all shapes
    #[arg(long)]
    pub(crate) short: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// auto, cpu, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Which model's shapes
    #[arg(long, value_name = "MODEL", default_value = "schnell")]
    pub(crate) preset: PresetChoice,
    /// What it computes in; auto is bf16 on a GPU, f32 on a CPU
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    pub(crate) dtype: DTypeChoice,
    /// Of the images
    #[arg(long, value_name = "WxH", default_value = "1024x1024", value_parser = size)]
    pub(crate) size: Size,
    /// Of the sampler
    #[arg(long, default_value_t = 4)]
    pub(crate) steps: i64,
    /// How many images are drawn together
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) batch: i64,
    /// How much of the device's memory to take, such as 30GB [default: as much as there is]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<ByteSize>,
    /// Batches that are not counted: the first one finds the fastest algorithms
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) warmups: usize,
    /// Batches that are
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) runs: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PresetChoice {
    /// FLUX.1-schnell: 34 GB in bf16
    Schnell,
    /// FLUX.2-klein-4B: 15 GB in bf16
    Klein,
    /// The demo model: for CPUs
    Small,
}

impl From<PresetChoice> for flux::bench::Preset {
    fn from(choice: PresetChoice) -> Self {
        match choice {
            PresetChoice::Schnell => Self::Schnell,
            PresetChoice::Klein => Self::Klein,
            PresetChoice::Small => Self::Small,
        }
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
    fn wrong_values_get_advice_that_works() {
        assert_eq!("-1".parse(), Ok(SeedChoice(None)));
        assert_eq!("18446744073709551615".parse(), Ok(SeedChoice(Some(u64::MAX))));
        assert!("-2".parse::<SeedChoice>().unwrap_err().contains("-1 for any seed"));
        for (wrong, advice) in
            [("1000x1000", "1008x1008"), ("0x9", "16x16"), ("99999x16", "8192x16")]
        {
            let said = size(wrong).unwrap_err();
            assert!(said.contains(advice), "{said}");
            assert!(size(advice).is_ok());
        }
        assert!(size("big").unwrap_err().contains("1024x768"));
        assert_eq!(guidance("3.5"), Ok(3.5));
        assert!(guidance("nan").is_err() && guidance("31").is_err());
    }
}
