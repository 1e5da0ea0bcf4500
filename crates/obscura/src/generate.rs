//! `obscura generate`: in this process, or privately on a node.

mod here;
mod inputs;
mod on_node;
mod prompts;
mod provenance;
mod report;

use std::io;

use anyhow::{Context, ensure};
use printable::Printable;
use protocol::{Count, Format, Prompt, Quality, Seed, Size, Steps, Style};

use self::{
    inputs::Inputs,
    report::{Form, Made, Report},
};
use crate::{
    args::{GenerateArgs, Given, ProvenanceChoice, TimingsForm},
    output::{self, Existing, Output, Wanted},
    preview::Terminal,
    progress::Progress,
    runtime,
};

/// Flags that say how this process draws, and flags that say how a node is asked: what the other way would
/// not look at is refused.
const HERE_ALONE: [&str; 6] = ["model", "device", "dtype", "manifest", "memory_limit", "lora"];
const ON_NODE_ALONE: [&str; 7] = [
    "model_id",
    "policy",
    "accept_simulated",
    "require_attested_tls",
    "api_key",
    "insecure_http",
    "provenance",
];

/// What the name of the file beside an image ends with that says where the image is from.
const PROVENANCE_ENDING: &str = ".provenance.json";

pub(crate) fn run(args: &GenerateArgs, given: &Given) -> anyhow::Result<()> {
    refuse_ignored(args, given)?;
    let prompts = prompts::read(args.prompt.as_deref(), args.prompts.as_deref())?;
    let inputs = Inputs::read(&args.images, args.mask.as_deref())?;
    let count = Count::new(args.n).context("--n")?;
    let order = Order {
        prompts,
        inputs,
        style: args.style.into(),
        count,
        size: args.size,
        steps: args.steps.map(Steps::new).transpose().context("--steps")?,
        quality: args.quality.into(),
        seed: args.seed.and_then(|seed| seed.0).map(Seed::new),
        guidance: args.guidance,
        provenance: args.provenance,
    };
    let output = Output::prepare(&Wanted {
        path: args.output.as_deref(),
        default: "obscura.png",
        format: args.format.map(Format::from),
        images: order.prompts.len() * count.get(),
        beside: (args.provenance != ProvenanceChoice::None).then_some(PROVENANCE_ENDING),
        existing: if args.force { Existing::Replace } else { Existing::Refuse },
    })?;
    ensure!(
        args.provenance == ProvenanceChoice::None || !output.is_stdout(),
        "--provenance writes a file beside the image: name one with --output"
    );
    let form = if args.json { Form::Json } else { Form::Text };
    let report = Report::new(form, output.is_stdout());
    let mut desk = Desk { output, report, terminal: args.preview.terminal(), count: count.get() };
    let timings = matches!(args.timings, Some(TimingsForm::Json));
    match &args.node {
        Some(url) => {
            let drawing = on_node::draw(args, &order, url, timings, &mut desk);
            runtime::runtime()?.block_on(drawing)
        }
        None => here::draw(args, order, timings, &mut desk),
    }
}

fn refuse_ignored(args: &GenerateArgs, given: &Given) -> anyhow::Result<()> {
    let (ignored, why) = match args.node {
        Some(_) => (&HERE_ALONE[..], "is for drawing in this process, without --node"),
        None => (&ON_NODE_ALONE[..], "is for asking a node: add --node URL"),
    };
    for flag in ignored {
        let hint = match (*flag, &args.node) {
            ("model", Some(_)) => "; the node's name for its model goes into --model-id",
            _ => "",
        };
        ensure!(!given.has(flag), "--{} {why}{hint}", flag.replace('_', "-"));
    }
    Ok(())
}

/// What is to be drawn, wherever.
struct Order {
    prompts: Vec<Prompt>,
    /// What each prompt is drawn from as well.
    inputs: Inputs,
    style: Style,
    /// Of each prompt.
    count: Count,
    size: Option<Size>,
    steps: Option<Steps>,
    quality: Quality,
    /// Of the first image of each prompt.
    seed: Option<Seed>,
    guidance: Option<f32>,
    provenance: ProvenanceChoice,
}

impl Order {
    fn steps(&self) -> Steps {
        self.steps.unwrap_or_else(|| self.quality.into())
    }
}

/// Where images arrive: they are written, told and shown.
struct Desk {
    output: Output,
    report: Report,
    terminal: Option<Terminal>,
    /// Images of a prompt.
    count: usize,
}

/// An image on its way to its file.
struct Arrived<'a> {
    file: &'a [u8],
    /// What is kept beside it.
    beside: Option<&'a [u8]>,
    prompt: usize,
    index: usize,
    seed: Option<u64>,
    size: Size,
    model: &'a str,
}

impl Desk {
    /// Writes it, and says where.
    fn put(&mut self, image: &Arrived<'_>, progress: &Progress) -> anyhow::Result<()> {
        let number = image.prompt * self.count + image.index;
        let path = self.output.write(number, image.file)?;
        if let Some(file) = image.beside {
            self.output.write_beside(number, file)?;
        }
        let made = Made {
            path: &path,
            bytes: image.file.len(),
            prompt: image.prompt,
            index: image.index,
            seed: image.seed,
            size: image.size,
            format: self.output.format().name(),
            model: image.model,
        };
        progress.aside(|| self.report.made(&made)).context("cannot write to standard output")?;
        self.show(image.file, progress);
        Ok(())
    }

    /// In a terminal that shows images. What cannot be shown is missing nowhere.
    fn show(&self, file: &[u8], progress: &Progress) {
        if let Some(terminal) = self.terminal {
            let _ = progress.aside(|| terminal.show(file, &mut io::stderr().lock()));
        }
    }

    fn note(&self, note: &str, progress: &Progress) {
        progress.aside(|| output::note(format_args!("note: {}", Printable::new(note))));
    }
}
