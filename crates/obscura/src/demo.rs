//! `obscura demo`: a node, and one private request to it, on one machine.

use std::{io::Cursor, net::SocketAddr, path::Path, time::Instant};

use anyhow::{Context, ensure};
use attest::{Platform, PlatformChoice, Policy};
use candle_core::Device;
use client::{Answer, ApiKey, Client};
use flux::Pipeline;
use image::ImageReader;
use node::{Config, Node, Service};
use protocol::{CreateImageRequest, SecretBytes, Size};
use tokio::net::TcpListener;

use crate::{
    args::DemoArgs,
    doctor, evidence, model,
    output::{Existing, Output, Wanted, announce},
    process,
    progress::{Phase, Progress},
    runtime,
};

pub(crate) fn run(args: DemoArgs) -> anyhow::Result<()> {
    ensure!(args.listen.ip().is_loopback(), "the demo asks for no credentials: loopback only");
    doctor::refuse_reference()?;
    let output = Output::prepare(&Wanted {
        path: args.output.as_deref(),
        default: "obscura-demo.png",
        format: None,
        images: 1,
        beside: None,
        existing: if args.force { Existing::Replace } else { Existing::Refuse },
    })?;
    ensure!(!output.is_stdout(), "--output -: the demo prints what it does; name a file");
    process::harden().context("core dumps cannot be turned off")?;
    runtime::runtime()?.block_on(async {
        let listener = bind(args.listen)?;
        let listen = listener.local_addr()?;
        let platform = Platform::find(PlatformChoice::Simulated, Path::new("/dev"))?;
        let config = Config { listen, allow_plaintext: true, ..Config::default() };
        let node = Node::new(config)?;

        let loading = Instant::now();
        let pipeline = tokio::task::spawn_blocking(|| Pipeline::demo(&Device::Cpu)).await??;
        let native_size = pipeline.native_size();
        let offering = model::loaded_model(vec![pipeline], model::DEMO_ID.to_owned())?;
        let sources = evidence::sources(platform, node.config())?;
        let service = Service::start(offering, sources, &node)?;
        announce(format_args!("Obscura demo: a private image, on this machine alone\n"));
        announce(format_args!("  model  {}, loaded in {:.1?}", model::DEMO_ID, loading.elapsed()));
        announce(format_args!("         {}", model::DEMO_NOTICE));
        announce(format_args!("  TEE    {platform}"));
        announce(format_args!("  node   http://{listen}, key {}\n", service.key_id()));
        node.start(service);

        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async {
            tokio::select! {
                () = process::asked_to_stop() => {}
                _ = stopped => {}
            }
        };
        let serving = tokio::spawn(node::serve(listener, node, shutdown));
        request(&args, listen, native_size, &output).await?;
        if args.once {
            drop(stop);
            serving.await?;
            return Ok(());
        }
        announce(format_args!("\nServing until Ctrl-C. A page to try it: http://{listen}  Another image:"));
        announce(format_args!(
            "  obscura generate \"two teal hearts in the night sky\" --node http://{listen} --accept-simulated"
        ));
        serving.await?;
        drop(stop);
        Ok(())
    })
}

/// One private request, as any client would make it.
async fn request(
    args: &DemoArgs,
    listen: SocketAddr,
    size: Size,
    output: &Output,
) -> anyhow::Result<()> {
    let client = Client::new(&format!("http://{listen}"), ApiKey::none())?;
    let request = CreateImageRequest {
        model: Some(model::DEMO_ID.to_owned()),
        prompt: Some(args.prompt.clone().into()),
        size: Some(size.to_string()),
        seed: args.seed.and_then(|seed| seed.0),
        output_format: Some(output.format().name().to_owned()),
        ..CreateImageRequest::default()
    };
    let policy = Policy::production().dangerous().accept_simulated();
    let attested = client.attest(&policy).await?;
    announce(format_args!(
        "  1. asked the node for evidence, and checked it by the rules for simulated nodes:"
    ));
    for check in &attested.appraisal().checks {
        announce(format_args!("     {} {:<20} {}", check.outcome, check.id, check.title));
    }
    announce(format_args!("     (simulated evidence shows the way, and proves nothing)"));
    announce(format_args!(
        "  2. sealed the prompt to the attested key: {} characters, padded",
        args.prompt.chars().count()
    ));
    let started = Instant::now();
    let progress = Progress::begin(Phase::Waiting);
    let answer = client.generate(request, &attested).await?;
    drop(progress);
    announce(format_args!(
        "  3. the node opened it, drew, and sealed the answer: {:.2?}",
        started.elapsed()
    ));
    // Hash and signature were checked when the answer was opened; without them there is none.
    let signing_key = answer.verified.signing_key;
    let file = image_of_size(&answer, size)?;
    announce(format_args!("  4. opened the answer and verified:"));
    announce(format_args!(
        "     hash       the opened bytes have the BLAKE2b hash that came with them"
    ));
    announce(format_args!(
        "     signature  an Ed25519 key signed that hash: {}…",
        hex::encode(&signing_key[..8])
    ));
    announce(format_args!(
        "     receipt    it is the attested key, and it names the attested model"
    ));
    announce(format_args!("     size       the image is {size}"));
    let path = output.write(0, &file)?;
    let seed = answer.response.seed.unwrap_or_default();
    announce(format_args!("\n  image  {}  seed {seed}", path.display()));
    Ok(())
}

/// The one image of the answer, which must have the size that was asked for.
fn image_of_size(answer: &Answer, size: Size) -> anyhow::Result<SecretBytes> {
    let data = answer.response.data.first().context("the answer has no image")?;
    let file = client::image_file(data)?;
    let found =
        ImageReader::new(Cursor::new(&file[..])).with_guessed_format()?.into_dimensions()?;
    ensure!(found == (size.width_px(), size.height_px()), "the size is wrong");
    Ok(file)
}

/// The wished-for address, or the next free port where it is taken.
fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    match runtime::listen_on(listen) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            runtime::listen_on(SocketAddr::new(listen.ip(), 0))
        }
        bound => bound,
    }
    .with_context(|| format!("cannot listen on {listen}"))
}
