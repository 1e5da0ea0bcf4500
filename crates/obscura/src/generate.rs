//! `obscura generate`: in this process, or privately on a node.

use std::{collections::BTreeSet, ops::ControlFlow, path::PathBuf, time::Instant};

use anyhow::{Context, ensure};
use attest::Policy;
use client::{ApiKey, Client, ClientError, HttpError};
use flux::{Job, Progress};
use indicatif::ProgressBar;
use printable::Printable;
use protocol::{Count, CreateImageRequest, ImageEvent, ProgressEvent, Prompt, Seed, Size, Steps};
use serde_json::json;

use crate::{
    args::{GenerateArgs, TimingsForm},
    model,
    output::Output,
    progress, runtime, verify,
};

/// Of an image whose size nobody said: 1024×1024.
const COMMON_PIXELS: u64 = 1 << 20;

pub(crate) fn run(args: GenerateArgs) -> anyhow::Result<()> {
    let output = Output::new(&args.output)?;
    match &args.node {
        Some(url) => runtime::runtime()?.block_on(on_node(&args, url, &output)),
        None => here(&args, &output),
    }
}

fn here(args: &GenerateArgs, output: &Output) -> anyhow::Result<()> {
    flux::groups::turned_off()?;
    let prompt = Prompt::new(args.prompt.clone()).context("the prompt")?;
    let steps = Steps::new(args.steps).context("--steps")?;
    let count = Count::new(args.n).context("--n")?;
    let seed = match args.seed {
        Some(seed) => Seed::new(seed),
        None => Seed::new(getrandom::u32().context("no randomness for a seed")?.into()),
    };
    if args.model.model == model::DEMO {
        eprintln!("note: the model is {}", model::DEMO_NOTICE);
    }
    let loading = Instant::now();
    let pixels = args.size.map_or(COMMON_PIXELS, Size::pixels);
    let pipeline = model::load(&args.model, pixels)?;
    let load_seconds = loading.elapsed().as_secs_f64();

    let size = args.size.unwrap_or(pipeline.native_size());
    let job =
        Job { prompt: &prompt, size, steps, seed, count, guidance: args.guidance, images: &[] };
    let bar = progress::steps(steps.get());
    let started = Instant::now();
    let generated = pipeline.generate(&job, &mut |progress| {
        if let Progress::Step { done, .. } = progress {
            bar.set_position(done as u64);
        }
        ControlFlow::Continue(())
    })?;
    let generate_seconds = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    if generated.prompt_tokens.truncated {
        eprintln!("note: the prompt is longer than the text encoder reads; its end was cut");
    }

    let encoding = Instant::now();
    for (index, image) in generated.images.iter().enumerate() {
        let path = output.write(index, &engine::encode(image, output.format())?)?;
        println!("{}  {}  seed {}", path.display(), image.size, seed.offset(index).get());
    }
    if let Some(TimingsForm::Json) = args.timings {
        let timings = &generated.timings;
        println!(
            "{}",
            json!({
                "generate_seconds": generate_seconds,
                "stages": {
                    "text_encode": timings.encode.as_secs_f64(),
                    "denoise": timings.denoise.as_secs_f64(),
                    "decode": timings.decode.as_secs_f64(),
                    "image_encode": encoding.elapsed().as_secs_f64(),
                },
                "load_seconds": load_seconds,
            })
        );
    }
    Ok(())
}

async fn on_node(args: &GenerateArgs, url: &str, output: &Output) -> anyhow::Result<()> {
    let key = args.api_key.as_ref().map_or_else(ApiKey::none, |key| ApiKey::new(key.clone()));
    let key = if args.insecure_http { key.over_insecure_http() } else { key };
    let client = Client::new(url, key).map_err(explained)?;
    let policy = verify::policy(&args.trust)?;
    let model = match args.model.model.as_str() {
        model::DEMO => model::DEMO_ID,
        name => name,
    };
    let request = CreateImageRequest {
        model: Some(model.to_owned()),
        prompt: Some(args.prompt.clone().into()),
        n: Some(args.n),
        size: args.size.map(|size| size.to_string()),
        steps: Some(args.steps),
        seed: args.seed,
        progress: Some(true),
        output_format: Some(output.format().name().to_owned()),
        ..CreateImageRequest::default()
    };
    let started = Instant::now();
    let bar = progress::waiting();
    let done = draw_on_node(&client, request, &policy, output, &bar).await;
    bar.finish_and_clear();
    let done = done?;
    // From here on there is no peer, only who reads what is printed.
    sigpipe::reset();
    for (path, seed) in done {
        let seed = seed.map(|seed| format!("  seed {seed}"));
        println!("{}{}", path.display(), seed.unwrap_or_default());
    }
    if let Some(TimingsForm::Json) = args.timings {
        println!(
            "{}",
            json!({ "generate_seconds": started.elapsed().as_secs_f64(), "stages": {} })
        );
    }
    Ok(())
}

/// What an error leaves unsaid: which flag allows it.
fn explained(error: ClientError) -> anyhow::Error {
    let is_about_the_key = matches!(error, ClientError::Http(HttpError::KeyInClearText { .. }));
    let error = anyhow::Error::new(error);
    match is_about_the_key {
        true => error.context("use https://, or --insecure-http if the way is yours alone"),
        false => error,
    }
}

/// Evidence first, as a node that is not trusted is not sent anything; then the images as events,
/// each written as it comes. Gives where they are, and their seeds.
async fn draw_on_node(
    client: &Client,
    request: CreateImageRequest,
    policy: &Policy,
    output: &Output,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<(PathBuf, Option<u64>)>> {
    let node = client.attest(policy).await?;
    let count = request.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    let mut events = client.generate_stream(request, &node).await?;
    let mut done = Vec::new();
    let mut written = BTreeSet::new();
    while let Some(event) = events.next().await? {
        match event {
            ImageEvent::Progress(ProgressEvent { step, steps }) => {
                progress::drawn(bar, step.into(), steps.into());
            }
            ImageEvent::Completed(event) => {
                for warning in &event.warnings {
                    let warning = Printable::new(warning);
                    bar.suspend(|| eprintln!("note: the node says \"{warning}\""));
                }
                let index = event.index as usize;
                // No more files than were asked for, whatever the node sends.
                ensure!(
                    index < count && written.insert(index),
                    "the node sent image {index} of {count}, or sent it twice"
                );
                let file = client::decode_image(&event.b64_json)?;
                done.push((output.write(index, &file)?, event.seed));
            }
            _ => {}
        }
    }
    ensure!(done.len() == count, "the node sent {} of {count} images", done.len());
    Ok(done)
}
