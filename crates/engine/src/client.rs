//! Ids of clients, for the queue's fairness.

use std::fmt;

/// Whom a request is counted for: whoever serves requests decides what tells clients apart, and
/// gives each a name of 32 bytes, a digest for instance. It is compared and never shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId([u8; 32]);

impl ClientId {
    /// Everybody, where nothing tells clients apart.
    pub const ANONYMOUS: Self = Self([0; 32]);

    /// The client of this name.
    #[must_use]
    pub fn new(name: [u8; 32]) -> Self {
        Self(name)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientId")
    }
}
