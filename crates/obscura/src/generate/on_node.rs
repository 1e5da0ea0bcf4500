//! Images that a node draws, and only the node and this process see.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context, bail, ensure};
use client::{ApiKey, AttestedNode, Client, ClientError, HttpError};
use printable::Printable;
use protocol::{CreateImageRequest, ImageEvent, Model, Prompt, Size, Style};
use serde_json::json;

use super::{Arrived, Desk, Order, provenance};
use crate::{
    args::GenerateArgs,
    progress::{Phase, Progress},
    verify,
};

/// Previews of an image, where they are shown.
const PREVIEWS: i64 = 3;

pub(super) async fn draw(
    args: &GenerateArgs,
    order: &Order,
    url: &str,
    timings: bool,
    desk: &mut Desk,
) -> anyhow::Result<()> {
    let key = args.api_key.as_ref().map_or_else(ApiKey::none, |key| ApiKey::new(key.clone()));
    let key = if args.insecure_http { key.over_insecure_http() } else { key };
    let client = Client::new(url, key).map_err(explained)?;
    let policy = verify::policy(&args.trust)?;
    let started = Instant::now();
    let progress = Progress::begin(Phase::Waiting);
    // Evidence first: a node that is not trusted is not sent anything.
    let mut node = client.attest(&policy).await?;
    let model = match &args.model_id {
        Some(model) => model.clone(),
        None => only_model(&client, &node, order).await?,
    };
    for (number, prompt) in order.prompts.iter().enumerate() {
        progress.set_prompt(number + 1, order.prompts.len());
        progress.set(Phase::Waiting);
        // Its keys change with time, and many prompts take long.
        if number > 0 {
            node = client.attest(&policy).await?;
        }
        let request = request(order, prompt, &model, desk);
        let proof = provenance::Expected { order, prompt, node: &node, model: &model };
        let asked = Asked { client: &client, node: &node, model: &model, prompt: number, proof };
        asked.draw(request, order.count.get(), desk, &progress).await?;
    }
    drop(progress);
    let seconds = started.elapsed().as_secs_f64();
    if timings {
        let timings = json!({ "generate_seconds": seconds, "stages": {} });
        desk.report.line(&timings.to_string())?;
    }
    let verdict = &node.appraisal().verdict;
    Ok(desk.report.summary(json!({
        "generate_seconds": seconds,
        "node": {
            "url": url,
            "verdict": verdict.to_string(),
            "model_manifest_sha256": hex::encode(node.model_manifest()),
        },
    }))?)
}

/// The model of a node that has one; for an edit, the only one of several that takes images.
async fn only_model(client: &Client, node: &AttestedNode, order: &Order) -> anyhow::Result<String> {
    let list = client.call().models(node).await.context("asking the node for its models")?;
    let fits = |model: &Model| order.inputs.references().is_none() || model.input_images > 0;
    only(list.data, fits)
}

/// The only model that fits; where none does, the only one, and the node says why it does not.
fn only(told: Vec<Model>, fits: impl Fn(&Model) -> bool) -> anyhow::Result<String> {
    let (fitting, others): (Vec<_>, Vec<_>) = told.into_iter().partition(fits);
    let mut candidates = if fitting.is_empty() { others } else { fitting };
    match candidates.len() {
        0 => bail!("the node names no model; --model-id names one"),
        1 => Ok(candidates.remove(0).id),
        _ => {
            let names = candidates.iter().map(|model| Printable::new(&model.id).into_string());
            let names = names.collect::<Vec<_>>().join(", ");
            bail!("the node has several models; --model-id takes one of: {names}")
        }
    }
}

fn request(order: &Order, prompt: &Prompt, model: &str, desk: &Desk) -> CreateImageRequest {
    CreateImageRequest {
        model: Some(model.to_owned()),
        prompt: Some(prompt.expose().to_owned().into()),
        n: Some(order.count.get() as i64),
        size: order.size.map(|size| size.to_string()),
        quality: Some(order.quality.name().to_owned()),
        style: (order.style == Style::Vivid).then(|| "vivid".to_owned()),
        steps: order.steps.map(|steps| steps.get() as i64),
        seed: order.seed.map(|seed| seed.get()),
        guidance: order.guidance.map(f64::from),
        progress: Some(true),
        partial_images: desk.terminal.map(|_| PREVIEWS),
        provenance: order.provenance.name().map(str::to_owned),
        output_format: Some(desk.output.format().name().to_owned()),
        images: order.inputs.references(),
        mask: order.inputs.mask_reference(),
        ..CreateImageRequest::default()
    }
}

/// What an error leaves unsaid: which flag allows it.
fn explained(error: ClientError) -> anyhow::Error {
    let advice = match &error {
        ClientError::Http(HttpError::KeyInClearText { .. }) => {
            Some("use https://, or --insecure-http if the way is yours alone")
        }
        ClientError::Http(HttpError::InvalidKey) => Some("--api-key, or OBSCURA_API_KEY"),
        _ => None,
    };
    let error = anyhow::Error::new(error);
    match advice {
        Some(advice) => error.context(advice),
        None => error,
    }
}

/// One request.
struct Asked<'a> {
    client: &'a Client,
    node: &'a AttestedNode,
    model: &'a str,
    /// Which prompt, from 0.
    prompt: usize,
    proof: provenance::Expected<'a>,
}

impl Asked<'_> {
    /// Takes the images as events, and puts each where it belongs as it comes.
    async fn draw(
        &self,
        request: CreateImageRequest,
        count: usize,
        desk: &mut Desk,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let mut events = self.client.generate_stream(request, self.node).await?;
        let mut written = BTreeSet::new();
        let images = count as u64;
        while let Some(event) = events.next().await? {
            match event {
                ImageEvent::Progress(event) => {
                    let (step, steps) = (u64::from(event.step), u64::from(event.steps));
                    let image = written.len() as u64;
                    progress.set(match step {
                        0 => Phase::Waiting,
                        _ if step >= steps => Phase::Decoding { image, images },
                        _ => Phase::Drawing { step, steps, images },
                    });
                }
                ImageEvent::PartialImage(event) => {
                    let file = client::decode_image(&event.b64_json)?;
                    desk.show(&file, progress);
                }
                ImageEvent::Completed(event) => {
                    for warning in &event.warnings {
                        let warning = Printable::new(warning);
                        desk.note(&format!("the node says \"{warning}\""), progress);
                    }
                    let index = event.index as usize;
                    // No more files than were asked for, whatever the node sends.
                    ensure!(
                        index < count && written.insert(index),
                        "the node sent image {index} of {count}, or sent it twice"
                    );
                    let file = client::decode_image(&event.b64_json)?;
                    let size: Size = event.size.parse().context("the node's image has no size")?;
                    // Before anything says that the image is there.
                    let proof = self.proof.check(&file, event.provenance.as_deref())?;
                    let arrived = Arrived {
                        file: &file,
                        beside: proof.as_deref(),
                        prompt: self.prompt,
                        index,
                        seed: event.seed,
                        size,
                        model: self.model,
                    };
                    desk.put(&arrived, progress)?;
                }
                ImageEvent::Error(_) => {}
            }
        }
        ensure!(written.len() == count, "the node sent {} of {count} images", written.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_unless_one_alone_fits() {
        let told = |most: &[usize]| {
            let models = most.iter().enumerate();
            models.map(|(at, most)| Model::new(&format!("m{at}"), 7, *most)).collect::<Vec<_>>()
        };
        let any = |_: &Model| true;
        let edits = |model: &Model| model.input_images > 0;
        assert_eq!(only(told(&[0]), any).unwrap(), "m0");
        assert_eq!(only(told(&[0, 4]), edits).unwrap(), "m1");
        // Alone, though it takes none: the node says so.
        assert_eq!(only(told(&[0]), edits).unwrap(), "m0");
        let refused = only(told(&[0, 4, 4]), edits).unwrap_err().to_string();
        assert!(refused.contains("m1, m2") && !refused.contains("m0"), "{refused}");
        assert!(only(told(&[0, 4]), any).is_err() && only(told(&[0, 0]), edits).is_err());
        assert!(only(Vec::new(), any).is_err());
    }
}
