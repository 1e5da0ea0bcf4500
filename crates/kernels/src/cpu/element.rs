//! Element types on the CPU: f32, which is computed in where it lies, or bf16, which is widened row by
//! row and rounded again.

use candle_core::WithDType;
use half::bf16;

use super::convert::{narrow_all, widen_all, zeros};

/// A number that kernels load and store; they compute in f32.
pub(super) trait Element: WithDType {
    /// A row as f32.
    fn read<'a>(row: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32];

    /// Has `f` make a row, in f32.
    fn write(row: &mut [Self], scratch: &mut Vec<f32>, f: impl FnOnce(&mut [f32]));

    /// So many zeros.
    fn zeros(count: usize) -> Vec<Self>;
}

impl Element for f32 {
    fn read<'a>(row: &'a [Self], _: &'a mut Vec<f32>) -> &'a [f32] {
        row
    }

    fn write(row: &mut [Self], _: &mut Vec<f32>, f: impl FnOnce(&mut [f32])) {
        f(row);
    }

    fn zeros(count: usize) -> Vec<Self> {
        vec![0.0; count]
    }
}

impl Element for bf16 {
    fn read<'a>(row: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let wide = sized(scratch, row.len());
        widen_all(row, wide);
        wide
    }

    fn write(row: &mut [Self], scratch: &mut Vec<f32>, f: impl FnOnce(&mut [f32])) {
        let wide = sized(scratch, row.len());
        f(wide);
        narrow_all(wide, row);
    }

    fn zeros(count: usize) -> Vec<Self> {
        zeros(count)
    }
}

fn sized(scratch: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if scratch.len() < length {
        scratch.resize(length, 0.0);
    }
    &mut scratch[..length]
}
