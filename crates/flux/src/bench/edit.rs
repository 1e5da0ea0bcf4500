//! How much an input image costs.

use std::{ops::ControlFlow, time::Instant};

use candle_core::Device;
use kernels::Precision;
use protocol::{Count, Prompt, Seed, Size, Steps};
use serde_json::json;

use super::{
    median,
    synthetic::{flux2_blueprint, klein, klein_configs_of},
};
use crate::{Error, GUIDANCE, InputImage, Job, Pipeline, Result};

/// Seconds of an image, medians over runs.
#[derive(Debug, Clone, Copy)]
pub struct EditCost {
    /// From a prompt alone.
    pub without: f64,
    /// From an input image of the same size as well.
    pub with_one: f64,
}

/// Draws images of this size in four steps with a part of FLUX.2-klein-4B: its width and its autoencoder, one double
/// block and two single blocks of 25, and next to no text encoder. So what is compared is what an input image adds
/// to: with the whole model, text and decoding are a smaller part of either time.
///
/// # Errors
/// Where the device has no room for about 2 GB in f32, or a kernel fails.
///
/// # Panics
/// Where the size is none of an input image.
pub fn edit_cost(
    device: &Device,
    precision: Precision,
    size: Size,
    runs: usize,
) -> Result<EditCost, Error> {
    const STEPS: i64 = 4;
    let pipeline = Pipeline::of_blueprint(
        flux2_blueprint(klein_configs_of(&part_of_klein())?)?,
        device,
        precision,
        None,
    )?;
    let (width, height) = (size.width_px() as usize, size.height_px() as usize);
    let rgb: Vec<u8> = (0..3 * width * height).map(|i| (i * i / 251) as u8).collect();
    let image = InputImage::new(width, height, rgb.into()).expect("a size of an input image");
    let prompt = Prompt::new("a hat".to_owned()).expect("a short text is a prompt");
    let draw = |images: &[InputImage]| -> Result<f64> {
        let job = Job {
            prompt: &prompt,
            size,
            steps: Steps::new(STEPS).expect("as many are in range"),
            seed: Seed::new(1),
            count: Count::ONE,
            guidance: GUIDANCE,
            images,
        };
        let started = Instant::now();
        pipeline.generate(&job, &mut |_| ControlFlow::Continue(()))?;
        Ok(started.elapsed().as_secs_f64())
    };
    let images = [image];
    // In turn, so that what else the machine does falls on both; the first of each warms up.
    let (mut without, mut with_one) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let pair = [draw(&[])?, draw(&images)?];
        if run > 0 {
            without.push(pair[0]);
            with_one.push(pair[1]);
        }
    }
    Ok(EditCost { without: median(&mut without), with_one: median(&mut with_one) })
}

fn part_of_klein() -> serde_json::Value {
    let mut part = klein();
    part["text_encoder"] = json!({
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 28,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
        "max_position_embeddings": 40_960, "rope_theta": 1e6,
    });
    part["transformer"]["num_layers"] = 1.into();
    part["transformer"]["num_single_layers"] = 2.into();
    // Three layers of the encoder's, side by side.
    part["transformer"]["joint_attention_dim"] = 192.into();
    part
}
