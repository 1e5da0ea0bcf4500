//! Whole numbers within bounds.

use thiserror::Error;

/// A number outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be a whole number from {min} to {max}")]
pub struct OutOfRange {
    /// The least accepted.
    pub min: i64,
    /// The most accepted.
    pub max: i64,
}

pub(crate) fn in_range(value: i64, min: i64, max: i64) -> Result<i64, OutOfRange> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(OutOfRange { min, max }) }
}
