//! `obscura proxy`: the side-car.

use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, ensure};
use proxy::{Config, NodeAddress, Proxy};
use zeroize::Zeroizing;

use crate::{
    args::ProxyArgs,
    log,
    output::{announce, note},
    process, runtime, verify,
};

/// More than any key has; a file beyond is no key's.
const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;

pub(crate) fn run(args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    let config = config(args)?;
    // Before anything starts a thread.
    process::harden().context("core dumps cannot be turned off")?;
    let _log = log::start(args.log.clone(), args.log_format, None)?;
    let tokio = runtime::runtime()?;
    let served = tokio.block_on(async {
        // Verified first: nobody can connect before there is a node to trust.
        let proxy = match Proxy::start(config).await {
            Ok(proxy) => proxy,
            Err(error) => {
                let code = ExitCode::from(error.exit_code());
                let error = anyhow::Error::new(error);
                note(format_args!("error: {}", printable::terminal(&format!("{error:#}"))));
                return Ok(code);
            }
        };
        let listener = runtime::listen_on(args.listen)
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        let listen = listener.local_addr()?;
        for node in proxy.nodes() {
            note(printable::terminal(&node));
        }
        // What a script waits for.
        announce(format_args!("obscura proxy listens on http://{listen}"));
        if args.open {
            open(&format!("http://{listen}{}", page(args)));
        }
        proxy::serve(listener, proxy, process::asked_to_stop()).await;
        Ok(ExitCode::SUCCESS)
    });
    tokio.shutdown_background();
    served
}

fn config(args: &ProxyArgs) -> anyhow::Result<Config> {
    ensure!(
        args.evidence.is_empty() || args.evidence.len() == args.nodes.len(),
        "--evidence is given {} times and --node {} times: one for each node, in their order, or none",
        args.evidence.len(),
        args.nodes.len()
    );
    let nodes = args.nodes.iter().enumerate().map(|(index, url)| NodeAddress {
        url: url.clone(),
        evidence: args.evidence.get(index).cloned(),
    });
    let key = |file: &Option<_>| file.as_deref().map(key).transpose();
    let config = Config {
        nodes: nodes.collect(),
        listen: args.listen,
        policy: verify::policy(&args.trust)?,
        policy_name: match &args.trust.policy {
            Some(file) => file.display().to_string(),
            None => "this release's own".to_owned(),
        },
        public_url: args.public_url.clone(),
        api_key: key(&args.api_key_file)?,
        insecure_http: args.insecure_http,
        client_key: key(&args.client_key_file)?,
        audit: args.audit.clone(),
    };
    config.check()?;
    Ok(config)
}

/// The one line of a key's file.
fn key(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let shown = file.display();
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES as usize + 1));
    File::open(file)
        .and_then(|file| file.take(MAX_KEY_FILE_BYTES + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read {shown}"))?;
    let key = text.trim_end_matches(['\r', '\n']);
    ensure!(!key.is_empty() && !key.contains('\n'), "{shown} holds no key: one line is expected");
    Ok(Zeroizing::new(key.to_owned()))
}

/// Where people draw; or the verdict, where the page that seals would judge by another policy than this proxy, or
/// ask for evidence elsewhere.
fn page(args: &ProxyArgs) -> String {
    match (&args.nodes[..], &args.evidence[..], &args.trust.policy) {
        ([node, ..], [], None) => {
            let demo = if args.trust.accept_simulated { "&demo" } else { "" };
            format!("/page#node={node}{demo}")
        }
        _ => "/".to_owned(),
    }
}

/// Shows a page. That there is no browser is no reason not to serve.
fn open(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        note(format_args!("note: {program} cannot be started ({error}); the page is at {url}"));
    }
}
