//! Generates images in this process, without a node: `cargo run --release -p obscura-flux --example pipeline`.
//!
//! `pipeline DIR` loads a model directory instead of the demo model.

use std::{env, ops::ControlFlow, path::Path};

use candle_core::Device;
use flux::{GUIDANCE, Job, LoadOptions, Pins, Pipeline, Precision, Progress};
use protocol::{Count, Prompt, Seed, Steps};

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    let pipeline = match env::args().nth(1) {
        None => Pipeline::demo(&device)?,
        Some(directory) => {
            // `Pins::Exactly(manifest)` loads the bytes that a manifest names, or nothing.
            let options = LoadOptions {
                device,
                precision: Precision::F32,
                pins: Pins::None,
                memory_limit: None,
                loras: Vec::new(),
            };
            Pipeline::load(Path::new(&directory), options)?
        }
    };
    let job = Job {
        prompt: &Prompt::new("two teal hearts in the night sky".to_owned())?,
        size: pipeline.native_size(),
        steps: Steps::new(4)?,
        seed: Seed::new(7),
        count: Count::new(2)?,
        guidance: GUIDANCE,
        images: &[],
    };
    // `Break` ends the job after the step that is being computed.
    let generated = pipeline.generate(&job, &mut |progress| {
        if let Progress::Step { done, total } = progress {
            println!("step {done} of {total}");
        }
        ControlFlow::Continue(())
    })?;
    for (index, image) in generated.images.iter().enumerate() {
        let (width, height) = (image.size.width_px(), image.size.height_px());
        let file = format!("pipeline-{index}.png");
        image::save_buffer(&file, &image.rgb, width, height, image::ColorType::Rgb8)?;
        println!("{file}");
    }
    Ok(())
}
