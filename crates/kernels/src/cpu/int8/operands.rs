//! What the registers are given.

/// Rows of x: some groups of inputs, and what each row of a group is multiplied by.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// Neighbours of a row, the first in the lowest bits: (K/step, rows, step/values).
    pub(super) words: &'a [i32],
    /// (groups, rows)
    pub(super) scales: &'a [f32],
    /// Σ x of each group, for quads: (groups, rows).
    pub(super) sums: &'a [i32],
}

/// The same of a weight's outputs.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// (K/values, outputs, values), with the bias of the way to multiply.
    pub(super) bytes: &'a [u8],
    /// (groups, outputs)
    pub(super) scales: &'a [f32],
}
