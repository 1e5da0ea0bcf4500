//! The roles of components.

/// The role of a component in the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    TextEncoder,
    Transformer,
    AutoEncoder,
}
