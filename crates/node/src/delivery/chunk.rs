//! Pieces of an answer, counted while they wait.

use std::{sync::Arc, time::Instant};

use axum::body::Bytes;

use super::{Delivery, Room};

/// So much is handed to a connection at a time. It is a sign of progress when it is taken.
const CHUNK_BYTES: usize = 64 * 1024;

/// The same bytes, counted until the last of them is dropped, wherever it waits.
pub(super) fn counted(bytes: Bytes, room: Arc<Room>) -> Bytes {
    Bytes::from_owner(Counted { bytes, _room: room })
}

struct Counted {
    bytes: Bytes,
    _room: Arc<Room>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Takes the next chunk, and notes that the reader goes on.
pub(super) fn next_chunk(rest: &mut Bytes, delivery: &Delivery) -> Bytes {
    delivery.progressed(Instant::now());
    rest.split_to(rest.len().min(CHUNK_BYTES))
}
