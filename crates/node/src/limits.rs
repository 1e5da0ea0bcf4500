//! Bounds that no configuration moves.

use protocol::MAX_EDIT_JSON_BYTES;

/// The largest body of a request. A prompt of 1000 characters takes at most 4 kB, 12 kB escaped;
/// the rest is room for a client's padding.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// The longest ciphertext of an edit. Padding to Padmé's lengths makes it at most an eighth longer.
pub(crate) const MAX_EDIT_CIPHERTEXT_BYTES: usize = MAX_EDIT_JSON_BYTES / 8 * 9;
/// The largest envelope of one: the ciphertext in base64, and a body beside it.
pub(crate) const MAX_SEALED_EDIT_BYTES: usize =
    MAX_EDIT_CIPHERTEXT_BYTES.div_ceil(3) * 4 + MAX_BODY_BYTES;
