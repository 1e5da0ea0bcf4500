//! What an input image adds to the time of an image, on this machine's CPU:
//! `cargo run --release -p obscura-flux --example edit_cost -- [SIDE [RUNS [f32|bf16]]]`.

use std::env;

use candle_core::Device;
use flux::{
    Precision,
    bench::{EditCost, edit_cost},
};
use protocol::Size;

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let side: u32 = arguments.next().as_deref().unwrap_or("512").parse()?;
    let runs: usize = arguments.next().as_deref().unwrap_or("3").parse()?;
    let precision = match arguments.next().as_deref() {
        Some("bf16") => Precision::Bf16,
        _ => Precision::F32,
    };
    let size = Size::new(side, side)?;
    let EditCost { without, with_one } = edit_cost(&Device::Cpu, precision, size, runs)?;
    let ratio = with_one / without;
    println!(
        "{size}: {without:.2} s without, {with_one:.2} s with one input image: {ratio:.2} times"
    );
    Ok(())
}
