//! The precision in 8 bits: e4m3 with a scale for each row.

use candle_core::{DType, Device, Result, Tensor};

use super::{Widths, layer, one};
use crate::{
    Affine, Epilogue, Modulation,
    backend::Backend,
    doctor::{Case, Examination},
    ops::{backend_of, quantise_linear, reference_of},
};

/// Of a layer in e4m3 against the layer as it was: three bits behind the leading one, in both factors.
const E4M3: f64 = 5e-2;
/// Of the product alone: Hopper's fast sums of e4m3 keep about 14 bits.
const FAST_SUMS: f64 = 2e-2;
/// Values in the middle between two of e4m3's are common, and may go either way: simulated, up to 2e-3.
/// A wrong rule of rounding would make 2.6e-2.
const ROUNDED_EITHER_WAY: f64 = 5e-3;
/// Rows that are converted on the host.
const FEW_ROWS: usize = 64;

/// Of a sequence of so many tokens.
pub(super) fn layers(
    examination: &mut Examination<'_>,
    widths: &Widths,
    rows: usize,
) -> Result<()> {
    let width = widths.heads[0] * widths.heads[1];
    for (inputs, outputs) in [(width, 3 * width), (width, 4 * width), (5 * width, width)] {
        layer_of(examination, [rows, inputs, outputs])?;
    }
    norm(examination, [rows, width])
}

/// A normalisation that quantises what it makes: against what it would make otherwise.
fn norm(examination: &mut Examination<'_>, [rows, width]: [usize; 2]) -> Result<()> {
    let inputs = [
        examination.random(DType::BF16, &[rows, width])?,
        examination.random(DType::BF16, &[1, width])?,
        examination.random(DType::BF16, &[1, width])?,
    ];
    fn by(x: &[Tensor]) -> Affine<'_> {
        Affine::Modulation(Modulation { shift: &x[1], scale: &x[2] })
    }
    let case = Case {
        kernel: "layer norm e4m3",
        name: format!("({rows}, {width})"),
        tolerance: E4M3,
        inputs: &inputs,
    };
    examination.compare_with(
        case,
        |x| {
            let made = backend_of(&x[0]).layer_norm_e4m3(&x[0], by(x), 1e-6)?;
            one(made.map(|normal| reference_of(&x[0]).plain((&normal).into())).transpose())
        },
        |x| Ok(one(reference_of(&x[0]).layer_norm(&x[0], by(x), 1e-6))?.unwrap_or_default()),
    );
    Ok(())
}

/// A layer in e4m3: against the layer as it was, and against the product of what was stored.
fn layer_of(examination: &mut Examination<'_>, [rows, inputs, outputs]: [usize; 3]) -> Result<()> {
    let dtype = DType::BF16;
    let tensors = [
        examination.random(dtype, &[rows, inputs])?,
        examination.weight(dtype, &[outputs, inputs])?,
        examination.random(dtype, &[outputs])?,
    ];
    let kernel = |x: &[Tensor]| {
        let layer = quantise_linear(layer(&x[1..]))?;
        one(backend_of(&x[0]).linear((&x[0]).into(), &layer, Epilogue::None))
    };
    let product = |x: &Tensor, weights: &[Tensor]| {
        let y = reference_of(x).linear(x.into(), &layer(weights), Epilogue::None);
        Ok(one(y)?.unwrap_or_default())
    };
    let name = format!("({rows}, {inputs}) → {outputs}");
    let case = |kernel, tolerance| Case { kernel, name: name.clone(), tolerance, inputs: &tensors };
    examination.compare_with(case("linear e4m3", E4M3), kernel, |x| product(&x[0], &x[1..]));
    examination.compare_with(case("linear e4m3, product", FAST_SUMS), kernel, |x| {
        product(&stored(&x[0])?, &[stored(&x[1])?, x[2].clone()])
    });
    let few = [tensors[0].narrow(0, 0, rows.min(FEW_ROWS))?];
    examination.compare_with(
        Case {
            kernel: "quantisation",
            name: format!("({}, {inputs})", few[0].dim(0)?),
            tolerance: ROUNDED_EITHER_WAY,
            inputs: &few,
        },
        |x| one(stored(&x[0]).map(Some)),
        |x| Ok(vec![quantised_by_hand(&x[0])?]),
    );
    Ok(())
}

/// What is left of rows that were stored in e4m3 and read again, f32.
fn stored(x: &Tensor) -> Result<Tensor> {
    let (values, scales) = crate::quantise_rows(&x.to_dtype(DType::BF16)?)?;
    reference_of(&values).dequantised(&values, &scales)
}

/// The same through candle's own conversion, which it has on a CPU.
fn quantised_by_hand(x: &Tensor) -> Result<Tensor> {
    let rows = x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let scales = (rows.abs()?.max(1)? / 448.0)?;
    let values = rows.broadcast_div(&scales.unsqueeze(1)?)?.to_dtype(DType::F8E4M3)?;
    reference_of(&values).dequantised(&values, &scales)?.to_device(x.device())
}
