//! Ids of clients, for the queue's fairness.

use std::{fmt, iter};

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

/// Whose shares a request counts towards: its client's, and those of a group that the client is of, such as all who use
/// one key. Both must have room, and groups take turns, as the clients of one group do among themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharers {
    group: ClientId,
    client: ClientId,
}

impl Sharers {
    /// A client of a group.
    #[must_use]
    pub fn in_group(group: ClientId, client: ClientId) -> Self {
        Self { group, client }
    }

    /// The group; of a client without one, the client.
    #[must_use]
    pub fn group(self) -> ClientId {
        self.group
    }

    /// The client.
    #[must_use]
    pub fn client(self) -> ClientId {
        self.client
    }

    /// Each of them once.
    pub fn iter(self) -> impl Iterator<Item = ClientId> {
        iter::once(self.group).chain((self.client != self.group).then_some(self.client))
    }

    /// Whether a request of theirs counts towards this share.
    #[must_use]
    pub fn include(self, id: ClientId) -> bool {
        self.group == id || self.client == id
    }
}

impl From<ClientId> for Sharers {
    fn from(client: ClientId) -> Self {
        Self { group: client, client }
    }
}
