//! Which keys the queries of one head see.

use crate::operand::Mask;

#[derive(Clone, Copy)]
pub(super) enum HeadMask<'a> {
    None,
    Causal,
    /// (l, l), or longer.
    Bias(&'a [f32]),
}

impl<'a> HeadMask<'a> {
    /// Of `mask`, whose bias is `bias`, (h, l, l), where it has one.
    pub(super) fn of(mask: Mask<'_>, bias: Option<&'a [f32]>, [head, length]: [usize; 2]) -> Self {
        match (mask, bias) {
            (Mask::Causal, _) => Self::Causal,
            (_, Some(bias)) => Self::Bias(&bias[head * length * length..]),
            _ => Self::None,
        }
    }
}
