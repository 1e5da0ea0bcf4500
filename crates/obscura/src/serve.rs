//! `obscura serve`.

use std::{io::IsTerminal, path::Path, sync::Arc};

use anyhow::Context;
use attest::{Platform, evidence::Sources};
use node::{Config, Node, Service};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::{
    args::{LogFormat, ServeArgs},
    doctor, evidence, model, process,
};

pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    log(args.log_format);
    process::harden().context("core dumps cannot be turned off")?;
    let platform = Platform::find(args.tee, Path::new("/dev"))?;
    let config = config(&args)?;
    let sources = evidence::sources(platform, &config)?;
    let node = Node::new(config)?;
    runtime()?.block_on(async {
        // Listening first: a port that is taken is found at once, and probes see the load.
        let listen = node.config().listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let listen = listener.local_addr()?;
        // The one line on standard output: what a script waits for.
        println!("obscura listens on http://{listen}");
        tracing::info!(%listen, tee = %platform, "listening; loading the model");

        let loading = tokio::task::spawn_blocking({
            let node = node.clone();
            move || load(&args, sources, &node)
        });
        let failed = async {
            match loading.await {
                Ok(Ok(())) => std::future::pending().await,
                Ok(Err(error)) => error,
                Err(panic) => anyhow::Error::new(panic).context("loading panicked"),
            }
        };
        tokio::select! {
            error = failed => Err(error),
            () = node::serve(listener, node, process::asked_to_stop()) => Ok(()),
        }
    })
}

fn load(args: &ServeArgs, sources: Sources, node: &Arc<Node>) -> anyhow::Result<()> {
    let id = model::id(&args.model, args.model_id.as_deref())?;
    if args.model.model == model::DEMO {
        tracing::warn!("{}", model::DEMO_NOTICE);
    }
    let pipeline = model::load(&args.model)?;
    doctor::refuse_wrong_kernels(pipeline.device())?;
    if !pipeline.device().is_cpu() {
        // Finds and pins the fastest algorithms, which the first request would wait for otherwise.
        pipeline.warm_up(pipeline.native_size()).context("the first picture failed")?;
    }
    let service = Service::start(model::offering(pipeline, id.clone()), sources, node.config())?;
    tracing::info!(model = id, key_id = %service.key_id(), "ready");
    node.start(service);
    Ok(())
}

/// Flags over the file over the defaults.
fn config(args: &ServeArgs) -> anyhow::Result<Config> {
    let mut config = match &args.config {
        Some(path) => Config::from_file(path)?,
        None => Config::default(),
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(capacity) = args.queue_capacity {
        config.queue_capacity = capacity;
    }
    config.allow_plaintext |= args.allow_plaintext;
    Ok(config)
}

/// The runtime that answers. Pictures are drawn on a thread of their own.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("OBSCURA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
