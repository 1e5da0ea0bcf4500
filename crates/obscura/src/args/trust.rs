//! What programs that talk to nodes can be told: whom to believe.

use std::{net::SocketAddr, path::PathBuf};

use attest::binding::Nonce;

use crate::{
    log::{LogFilter, LogFormat},
    time::At,
};

#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// The node to ask
    #[arg(value_name = "URL", required_unless_present_any = ["report", "image"], conflicts_with = "report")]
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
    /// Judge where this image (PNG, JPEG, WebP) is from, by its C2PA manifest and the node's evidence, and tell
    /// its invisible mark
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// Open the manifest's commitment with what came with the image (an answer's `provenance`, as JSON)
    #[arg(long, value_name = "FILE", requires = "image", requires = "prompt_file")]
    pub(crate) disclose: Option<PathBuf>,
    /// And this prompt; a line's end at its end does not count
    #[arg(long, value_name = "FILE", requires = "disclose")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// And, of an edit, this input image, as it was sent; several in their order
    #[arg(long, value_name = "FILE", requires = "disclose")]
    pub(crate) input_image: Vec<PathBuf>,
    /// And, of an edit under a mask, this mask, as it was sent
    #[arg(long, value_name = "FILE", requires = "input_image")]
    pub(crate) input_mask: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// Keep the report, for an audit
    #[arg(long, value_name = "FILE", conflicts_with = "report")]
    pub(crate) save: Option<PathBuf>,
    /// Replace a file that --save finds there
    #[arg(long, requires = "save")]
    pub(crate) force: bool,
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
    /// What URLs of images begin with, behind a server that ends TLS: such as `https://images.example` [default:
    /// `http://` and what the program calls the proxy]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
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
    /// Open the page that verifies and seals in the browser; with `--policy` or `--evidence`, which that page does
    /// not know, the page with the verdict
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
