//! `obscura generate`: in this process, or privately on a node.

use std::{ops::ControlFlow, time::Instant};

use anyhow::{Context, ensure};
use client::{ApiKey, Client};
use flux::{Job, Progress};
use protocol::{Count, CreateImageRequest, Prompt, Seed, Steps};
use serde_json::json;

use crate::{
    args::{GenerateArgs, TimingsForm},
    model,
    output::Output,
    progress, serve, verify,
};

pub(crate) fn run(args: GenerateArgs) -> anyhow::Result<()> {
    let output = Output::new(&args.output)?;
    match &args.node {
        Some(url) => serve::runtime()?.block_on(on_node(&args, url, &output)),
        None => here(&args, &output),
    }
}

fn here(args: &GenerateArgs, output: &Output) -> anyhow::Result<()> {
    let prompt = Prompt::new(args.prompt.clone()).context("the prompt")?;
    let steps = Steps::new(args.steps).context("--steps")?;
    let count = Count::new(args.n).context("--n")?;
    let seed = match args.seed {
        Some(seed) => Seed::new(seed),
        None => Seed::new(getrandom::u32().context("no randomness for a seed")?.into()),
    };
    if args.model.model == model::DEMO {
        eprintln!("note: {}", model::DEMO_NOTICE);
    }
    let loading = Instant::now();
    let pipeline = model::load(&args.model)?;
    let load_seconds = loading.elapsed().as_secs_f64();

    let size = args.size.unwrap_or(pipeline.native_size());
    let job = Job { prompt: &prompt, size, steps, seed, count, guidance: args.guidance };
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
    for (index, picture) in generated.pictures.iter().enumerate() {
        let path = output.write(index, &node::encode(picture, output.format())?)?;
        println!("{}  {}  seed {}", path.display(), picture.size, seed.offset(index).get());
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
    ensure!(
        output.format() == node::Format::Png,
        "a node sends PNG; give --output a name that ends in .png"
    );
    let key = args.api_key.as_ref().map_or_else(ApiKey::none, |key| ApiKey::new(key.clone()));
    let client = Client::new(url, key)?;
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
        ..CreateImageRequest::default()
    };
    let started = Instant::now();
    let waiting = progress::waiting();
    // Evidence first: a node that is not trusted is not sent anything.
    let answer = match client.attest(&policy).await {
        Ok(node) => client.generate(request, &node).await,
        Err(refused) => Err(refused),
    };
    waiting.finish_and_clear();
    let answer = answer?;
    for warning in &answer.response.warnings {
        eprintln!("note: {warning}");
    }
    let first_seed = answer.response.seed.map(Seed::new);
    for (index, data) in answer.response.data.iter().enumerate() {
        let path = output.write(index, &client::picture_file(data)?)?;
        let seed = first_seed.map(|seed| format!("  seed {}", seed.offset(index).get()));
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
