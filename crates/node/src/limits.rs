//! Bounds that no configuration moves.

/// The largest body of a request. A prompt of 1000 characters takes at most 4 kB, 12 kB escaped;
/// the rest is room for a client's padding.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
