//! x Wᵀ and what follows it, by the kernel that the weight is packed for.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::{
    grid::Rows,
    int8::{self, Int8Panels},
    matrix::Elements,
    panels::{self, Panels},
};
use crate::operand::{Linear, Weight, packed_as};

/// Writes x Wᵀ (l, out), then applies `each` to every piece of a row of it (given the row's index, and which
/// of its outputs the piece has), in parallel.
pub(super) fn multiply(
    x: &Tensor,
    layer: &Linear,
    to: Rows<'_>,
    each: impl Fn(usize, Range<usize>, &mut [f32]) + Send + Sync,
) -> Result<()> {
    let x = Elements::of(x);
    let x = x.matrix()?;
    match &layer.weight {
        Weight::Packed(packed) => {
            if let Some(panels) = packed_as::<Panels>(&**packed) {
                return panels::multiply(x, panels, to, each);
            }
            if let Some(panels) = packed_as::<Int8Panels>(&**packed) {
                return int8::multiply(x, panels, to, each);
            }
        }
        Weight::Plain(weight) => return panels::multiply(x, &Panels::of(weight)?, to, each),
        Weight::Int8(weight) => return int8::multiply(x, &Int8Panels::of(weight)?, to, each),
        Weight::E4m3 { .. } => {}
    }
    candle_core::bail!("a weight that is not stored for products in f32")
}
