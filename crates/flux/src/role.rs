//! What components are for.

/// What a component is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    TextEncoder,
    Transformer,
    AutoEncoder,
}
