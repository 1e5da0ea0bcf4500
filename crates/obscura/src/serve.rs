//! `obscura serve`.

use std::{net::SocketAddr, num::NonZeroUsize, path::Path, sync::Arc, time::Instant};

use anyhow::Context;
use attest::{Platform, evidence::Sources};
use flux::LargestBatch;
use node::{LoadedModel, Node, Probes, Service};
use tokio::net::TcpListener;

use crate::{
    args::ServeArgs,
    doctor, evidence, log, model,
    output::announce,
    process,
    runtime::{listen_on, runtime},
    sandbox,
    settings::{Launch, LaunchModel, Settings},
};

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    doctor::refuse_reference()?;
    let settings = Settings::read(args)?;
    // All of them before anything is looked for: what is wrong with them is to be found on every machine.
    let (launch, config) = settings.checked()?;
    // Before anything starts a thread, as the export of traces does.
    process::harden().context("core dumps cannot be turned off")?;
    let _log = log::start(launch.log.clone(), launch.log_format, launch.otlp_endpoint.as_deref())?;
    let platform = Platform::find(launch.tee, Path::new("/dev"))?;
    let sources = evidence::sources(platform, &config)?;
    let node = Node::new(config)?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        // Listening first: a port that is taken is found at once, and probes see the load.
        let listen = node.config().listen;
        let listener = listen_on(listen).with_context(|| format!("cannot listen on {listen}"))?;
        let listen = listener.local_addr()?;
        let probes = node.config().health_listen.map(|at| probes_on(at, &node)).transpose()?;
        // What a script waits for.
        announce(format_args!("obscura listens on {}://{listen}", node.scheme()));
        if let Some((_, at)) = &probes {
            announce(format_args!("obscura answers probes on http://{at}"));
        }
        if let Some(spki_sha256) = node.tls_spki_sha256() {
            tracing::info!(spki_sha256, "TLS ends here");
        }
        tracing::info!(%listen, tee = %platform, "listening; loading the model");

        let loading = tokio::task::spawn_blocking({
            let node = node.clone();
            move || load(&launch, sources, &node)
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
            () = node::serve(listener, node.clone(), process::asked_to_stop()) => Ok(()),
        }
    });
    // What still runs has had its time: a model that is being loaded, a quote that is waited for, an
    // answer that nobody reads.
    runtime.shutdown_background();
    served
}

/// Answers probes on `address`, and says where that is.
fn probes_on(address: SocketAddr, node: &Arc<Node>) -> anyhow::Result<(Probes, SocketAddr)> {
    let listener = listen_on(address)
        .and_then(TcpListener::into_std)
        .with_context(|| format!("cannot listen on {address} (`health_listen`)"))?;
    let address = listener.local_addr()?;
    let probes = Probes::start(listener, node.clone());
    Ok((probes.context("the thread that answers probes could not be started")?, address))
}

fn load(launch: &Launch, sources: Sources, node: &Arc<Node>) -> anyhow::Result<()> {
    let started = Instant::now();
    let together = launch.max_batch.map_or(1, NonZeroUsize::get) as u64;
    let pixels = node.config().max_pixels.saturating_mul(together);
    let batch = LargestBatch { images: together, pixels };
    let plan = model::plan(&launch.models, batch)?;
    let loaded = plan.iter().map(|planned| load_one(planned, launch.max_batch, batch));
    let loaded: Vec<LoadedModel> = loaded.collect::<anyhow::Result<_>>()?;
    let names: Vec<String> = loaded.iter().map(|loaded| loaded.model.clone()).collect();
    let engines = loaded.first().map_or(0, |loaded| loaded.generators.len());
    let service = Service::start(loaded, sources, node)?;
    tracing::info!(
        model = names.join(", "),
        manifest = service.manifest_hex(),
        key_id = %service.key_id(),
        engines,
        load_seconds = started.elapsed().as_secs_f64(),
        "ready"
    );
    // After everything that opens files or starts threads, and before the first request.
    sandbox::enter(launch.sandbox)?;
    node.start(service);
    Ok(())
}

/// A model on each device.
fn load_one(
    planned: &LaunchModel,
    max_batch: Option<NonZeroUsize>,
    batch: LargestBatch,
) -> anyhow::Result<LoadedModel> {
    let LaunchModel { on_devices, id } = planned;
    let first = on_devices.first().context("`device` names none")?;
    let id = model::id(first, id.as_deref())?;
    if first.model == model::DEMO {
        tracing::info!("the model is {}", model::DEMO_NOTICE);
    }
    for lora in &first.lora {
        tracing::info!(model = id, file = %lora.file.display(), weight = lora.weight.get(), "merging a LoRA");
    }
    let load = |model| model::load(model, batch);
    let mut pipelines: Vec<_> = on_devices.iter().map(load).collect::<Result<_, _>>()?;
    if let Some(images) = max_batch {
        pipelines.iter_mut().for_each(|pipeline| pipeline.set_max_batch(images));
    }
    for pipeline in &pipelines {
        doctor::refuse_wrong_kernels(pipeline.device(), first.dtype)?;
        if !pipeline.device().is_cpu() {
            // Finds and pins the fastest algorithms, which the first request would wait for otherwise.
            pipeline.warm_up(pipeline.native_size()).context("the first image failed")?;
        }
    }
    model::loaded_model(pipelines, id)
}
