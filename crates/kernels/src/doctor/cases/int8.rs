//! Layers in 8-bit integers, on a CPU: against the layer of what was stored, and against the layer as it was.

use candle_core::{DType, Result, Tensor};

use super::{Widths, layer, one};
use crate::{
    Epilogue, Heads, Linear, Scores, Weight,
    backend::Backend,
    cpu::int8_row_bits,
    doctor::{Case, Examination},
    ops::{backend_of, pack_linear, quantise_int8, reference_of},
};

/// Of a side in 8 bits: half a step of 1/127 of the largest of 256 values.
const OF_8_BITS: f64 = 1e-2;
/// Of one in 16.
const OF_16_BITS: f64 = 1e-4;

/// Of a sequence of so many tokens.
pub(super) fn layers(
    examination: &mut Examination<'_>,
    widths: &Widths,
    rows: usize,
) -> Result<()> {
    let [count, head] = widths.heads;
    let width = count * head;
    for (inputs, outputs) in [(width, 3 * width), (5 * width + 1, width + 1)] {
        let dtype = DType::F32;
        let tensors = [
            examination.random(dtype, &[rows, inputs])?,
            examination.weight(dtype, &[outputs, inputs])?,
            examination.random(dtype, &[outputs])?,
        ];
        let stored = Linear {
            weight: Weight::Int8(quantise_int8(&tensors[1])?),
            bias: Some(tensors[2].clone()),
        };
        let packed = pack_linear(stored)?;
        // The product rounds its rows; that of the layer as it was rounds its weights too.
        let of_rows = if int8_row_bits() == 8 { OF_8_BITS } else { OF_16_BITS };
        for (kernel, of_weights) in [("linear int8, product", 0.0), ("linear int8", OF_8_BITS)] {
            let tolerance = of_rows + of_weights;
            let name = format!("({rows}, {inputs}) → {outputs}");
            let case = Case { kernel, name, tolerance, inputs: &tensors };
            examination.compare_with(
                case,
                |x| one(backend_of(&x[0]).linear((&x[0]).into(), &packed, Epilogue::None)),
                |x| {
                    let reference = reference_of(&x[0]);
                    let plain = layer(&x[1..]);
                    let of = if of_weights == 0.0 { &packed } else { &plain };
                    let y = reference.linear((&x[0]).into(), of, Epilogue::None);
                    Ok(one(y)?.unwrap_or_default())
                },
            );
        }
        attention(examination, &packed, [rows, count, head])?;
    }
    Ok(())
}

/// Attention between such layers, which may be in bf16.
fn attention(examination: &mut Examination<'_>, layer: &Linear, shape: [usize; 3]) -> Result<()> {
    let part = || examination.random(DType::F32, &shape);
    let tensors = [part()?, part()?, part()?];
    let heads =
        |x: &[Tensor]| Heads { q: x[0].clone(), k: x[1].clone(), v: x[2].clone(), images: 1 };
    let scores = Scores::scaled(shape[2]);
    let case = Case {
        kernel: "attention between int8",
        name: format!("{shape:?}"),
        tolerance: OF_8_BITS,
        inputs: &tensors,
    };
    examination.compare_with(
        case,
        |x| one(backend_of(&x[0]).attention_between(&heads(x), scores, layer)),
        |x| Ok(one(reference_of(&x[0]).attention(&heads(x), scores))?.unwrap_or_default()),
    );
    Ok(())
}
