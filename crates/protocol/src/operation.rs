//! The operation: a generation, from text alone, or an edit, from images too.

/// The two operations of the image API. Each has its route, in clear text and sealed, and its names of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// From a prompt.
    Generation,
    /// From a prompt and input images.
    Edit,
}

impl Operation {
    /// Its route in clear text.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Generation => "/v1/images/generations",
            Self::Edit => "/v1/images/edits",
        }
    }

    /// Its route for what is sealed.
    #[must_use]
    pub fn confidential_path(self) -> &'static str {
        match self {
            Self::Generation => "/v1/confidential/images/generations",
            Self::Edit => "/v1/confidential/images/edits",
        }
    }
}
