//! What several tests share: fixtures, a node on loopback.
