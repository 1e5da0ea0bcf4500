//! Lines of the cache, as values and as the pairs of values that products read.

use half::bf16;

/// 32 values of bf16 at a multiple of 64 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [bf16; 32]);

impl Line {
    pub(super) const ZERO: Self = Self([bf16::ZERO; 32]);

    /// Pairs of neighbours, the first in the low half: x86's order of bytes.
    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; 16] {
        // SAFETY: 64 bytes at a multiple of 64, of which any are valid u32.
        unsafe { &*std::ptr::from_ref(self).cast() }
    }

    /// As [`Self::words`].
    #[inline(always)]
    pub(super) fn words_mut(&mut self) -> &mut [u32; 16] {
        // SAFETY: as above; and any bits are valid bf16.
        unsafe { &mut *std::ptr::from_mut(self).cast() }
    }

    /// Up to 32 values, then zeros.
    #[inline(always)]
    pub(super) fn fill(&mut self, values: &[bf16]) {
        if let Ok(whole) = <&[bf16; 32]>::try_from(values) {
            self.0 = *whole;
        } else {
            self.0[..values.len()].copy_from_slice(values);
            self.0[values.len()..].fill(bf16::ZERO);
        }
    }
}
