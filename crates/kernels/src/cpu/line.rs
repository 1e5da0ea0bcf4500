//! Lines of the cache, as values and as the pairs of values that products read; and numbers as lines.

use std::slice;

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

    /// Lines that begin where these bytes do, without what fills no line.
    ///
    /// # Panics
    /// Where they do not begin at a multiple of 64.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(super) fn of_bytes(bytes: &[u8]) -> &[Self] {
        assert!(bytes.as_ptr().cast::<Self>().is_aligned(), "no line begins there");
        // SAFETY: so many lines of 64 bytes lie there, of which any are valid bf16, for as long as the bytes do.
        unsafe { slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<Self>()) }
    }

    /// As [`Self::of_bytes`].
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(super) fn of_words(words: &[i32]) -> &[Self] {
        // SAFETY: any bits are valid bytes.
        Self::of_bytes(unsafe { slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) })
    }

    /// All values of these lines, as numbers.
    pub(super) fn values<T: AnyBits>(lines: &[Self]) -> &[T] {
        // SAFETY: as many as fill the lines, which are aligned to more; any bits are valid.
        unsafe { slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines) / size_of::<T>()) }
    }

    /// As [`Self::values`].
    pub(super) fn values_mut<T: AnyBits>(lines: &mut [Self]) -> &mut [T] {
        let count = size_of_val(lines) / size_of::<T>();
        // SAFETY: as above, and borrowed mutably; any bits are valid bf16.
        unsafe { slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), count) }
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

/// Numbers of at most 64 bytes.
///
/// # Safety
/// Any bits are valid for them, they have none that mean nothing, and their size divides a line's.
pub(super) unsafe trait AnyBits: Copy {}

// SAFETY: so they are.
unsafe impl AnyBits for u8 {}
// SAFETY: so they are.
unsafe impl AnyBits for i32 {}
// SAFETY: so they are.
unsafe impl AnyBits for f32 {}
