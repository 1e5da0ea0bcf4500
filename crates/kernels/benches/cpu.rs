//! FLUX.1's operations on a CPU, at its own shapes: a line of JSON each, medians, TFLOP/s.
//!
//! `RAYON_NUM_THREADS=16 cargo bench -p obscura-kernels --bench cpu [-- f32 | int8] [linear | attention | conv]`, in
//! bf16 unless told otherwise; with int8, products alone, of rows in f32 and weights in 8 bits. `bench/cpu/kernels.py`
//! has torch do the same in bf16 and f32. Take turns.

#![allow(clippy::print_stdout, reason = "what it is for")]

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor};
use kernels::{Conv3x3, ConvForm, Epilogue, Heads, Linear, Scores, Weight};

/// Rows, inputs, outputs: of 512×512 and 1024×1024, and of T5's 256 tokens.
const PRODUCTS: [[usize; 3]; 10] = [
    [1280, 3072, 9216],
    [4352, 3072, 9216],
    [1280, 3072, 12288],
    [4352, 3072, 12288],
    [1280, 15360, 3072],
    [4352, 15360, 3072],
    [1280, 12288, 3072],
    [4352, 12288, 3072],
    [256, 4096, 4096],
    [256, 4096, 10240],
];
/// Tokens; of 24 heads of 128 values.
const ATTENTIONS: [usize; 2] = [1280, 4352];
/// Side, inputs, outputs.
const CONVOLUTIONS: [[usize; 3]; 5] =
    [[64, 512, 512], [128, 512, 512], [256, 512, 256], [512, 256, 128], [512, 128, 128]];

const LEAST_RUNS: usize = 5;
const LEAST_TIME: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let asked = |word| std::env::args().any(|argument| argument == word);
    let all = !["linear", "attention", "conv"].into_iter().any(asked);
    let in_8_bits = asked("int8");
    let dtype = if in_8_bits || asked("f32") { DType::F32 } else { DType::BF16 };
    let some = |kind, count| if all || asked(kind) { count } else { 0 };
    for [rows, inputs, outputs] in PRODUCTS.into_iter().take(some("linear", PRODUCTS.len())) {
        let weight = random(dtype, 0.02, &[outputs, inputs])?;
        let weight = match in_8_bits {
            true => Weight::Int8(kernels::quantise_int8(&weight)?),
            false => Weight::Plain(weight),
        };
        let bias = Some(random(dtype, 1.0, &[outputs])?);
        let layer = kernels::pack_linear(Linear { weight, bias })?;
        let x = random(dtype, 1.0, &[rows, inputs])?;
        let operations = 2.0 * (rows * inputs * outputs) as f64;
        report("linear", format!("{rows}x{inputs}->{outputs}"), operations, || {
            kernels::linear(&x, &layer, Epilogue::None)
        })?;
    }
    if in_8_bits {
        return Ok(());
    }
    for tokens in ATTENTIONS.into_iter().take(some("attention", ATTENTIONS.len())) {
        let (count, width) = (24, 128);
        let part = || random(dtype, 1.0, &[tokens, count, width]);
        let heads = Heads { q: part()?, k: part()?, v: part()?, images: 1 };
        let operations = 4.0 * (tokens * tokens * count * width) as f64;
        report("attention", format!("{tokens}x{count}x{width}"), operations, || {
            kernels::attention(&heads, Scores::scaled(width))
        })?;
    }
    for [side, inputs, outputs] in CONVOLUTIONS.into_iter().take(some("conv", CONVOLUTIONS.len())) {
        let weight = random(dtype, 0.02, &[outputs, 3, 3, inputs])?;
        let conv = Conv3x3::new(weight, random(dtype, 1.0, &[outputs])?);
        let conv = kernels::pack_conv3x3(conv)?;
        let x = random(dtype, 1.0, &[side, side, inputs])?;
        let operations = 18.0 * (side * side * inputs * outputs) as f64;
        report("conv", format!("{side}x{side} {inputs}->{outputs}"), operations, || {
            kernels::conv3x3(&x, &conv, ConvForm::Plain)
        })?;
    }
    Ok(())
}

fn random(dtype: DType, deviation: f32, shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, deviation, shape, &Device::Cpu)?.to_dtype(dtype)
}

/// Runs it a few times, and prints the median.
fn report(
    what: &str,
    case: String,
    operations: f64,
    run: impl Fn() -> Result<Tensor>,
) -> Result<()> {
    run()?;
    let begun = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < LEAST_RUNS || begun.elapsed() < LEAST_TIME {
        let started = Instant::now();
        run()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let (ms, best_ms, rate) = (1e3 * median, 1e3 * seconds[0], operations / median / 1e12);
    println!(
        r#"{{"bench":"{what}","case":"{case}","ms":{ms:.3},"best_ms":{best_ms:.3},"tflops":{rate:.3}}}"#
    );
    Ok(())
}
