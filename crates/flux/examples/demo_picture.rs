//! Writes pictures of the demo model: `demo_picture OUT.png [PROMPT [SEED [WIDTHxHEIGHT]]]`.

use std::{env, error::Error, ops::ControlFlow, path::PathBuf, time::Instant};

use candle_core::Device;
use flux::{Job, Pipeline};
use protocol::{Count, Prompt, Seed, Size, Steps};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let output = PathBuf::from(arguments.next().ok_or("name a file to write")?);
    let prompt = Prompt::new(arguments.next().unwrap_or_else(|| "a red fox".to_owned()))?;
    let seed = Seed::new(arguments.next().map_or(Ok(0), |seed| seed.parse())?);
    let started = Instant::now();
    let pipeline = Pipeline::demo(&Device::Cpu)?;
    let native = pipeline.native_size();
    let size: Size = arguments.next().map_or(Ok(native), |size| size.parse())?;
    eprintln!("made in {:.2?}", started.elapsed());
    let job = Job { prompt: &prompt, size, steps: Steps::STANDARD, seed, count: Count::ONE };
    let generated = pipeline.generate(&job, &mut |_| ControlFlow::Continue(()))?;
    eprintln!("{:?}, {:?}", generated.timings, generated.prompt_tokens);
    let picture = &generated.pictures[0];
    let (width, height) = (picture.size.width_px(), picture.size.height_px());
    image::save_buffer(output, &picture.rgb, width, height, image::ColorType::Rgb8)?;
    Ok(())
}
