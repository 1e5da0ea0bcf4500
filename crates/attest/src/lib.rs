//! What a node's evidence binds, and how a stranger checks it.
