//! `GET /v1/models`, in OpenAI's shape.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The models a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// One entry a model.
    pub data: Vec<Model>,
}

impl ModelList {
    /// A list of these.
    #[must_use]
    pub fn new(data: Vec<Model>) -> Self {
        Self { object: "list".to_owned(), data }
    }
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// The name that requests use.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// When the node loaded it, in seconds since 1970.
    pub created: u64,
    /// Who made it.
    pub owned_by: String,
    /// How many images an edit may give it, which is not OpenAI's; 0 where it draws from text alone.
    // Others who speak OpenAI's API, such as a gateway, do not tell.
    #[serde(default)]
    pub input_images: usize,
}

impl Model {
    /// A model loaded at `created_secs`. Its owner is the part of the name before the slash.
    #[must_use]
    pub fn new(id: &str, created_secs: u64, input_images: usize) -> Self {
        Self {
            id: id.to_owned(),
            object: "model".to_owned(),
            created: created_secs,
            owned_by: id.split_once('/').map_or("obscura", |(owner, _)| owner).to_owned(),
            input_images,
        }
    }
}
