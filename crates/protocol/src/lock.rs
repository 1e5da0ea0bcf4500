//! How Atoma's SDKs learn which key to seal to: `POST /v1/nodes/lock`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which node serves this model?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeLockRequest {
    /// The model.
    pub model: String,
}

/// This one, with this key. A proxy answers for many nodes; a node that answers for itself has no
/// stacks, and says zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeLockResponse {
    /// The node's X25519 public key, base64.
    pub public_key: String,
    /// The node's number with the proxy.
    pub node_small_id: u64,
    /// The billing stack's number with the proxy.
    pub stack_small_id: u64,
    /// The stack's entry on the chain.
    pub stack_entry_digest: Option<String>,
}
