//! Layers in 8-bit integers, on a CPU: against the layer of what was stored, and against the layer as it was.

use candle_core::{DType, Result};

use super::{Widths, layer, one};
use crate::{
    Epilogue, Linear, Weight,
    backend::Backend,
    cpu::int8::row_bits,
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
    let width = widths.heads[0] * widths.heads[1];
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
        let of_rows = if row_bits() == 8 { OF_8_BITS } else { OF_16_BITS };
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
    }
    Ok(())
}
