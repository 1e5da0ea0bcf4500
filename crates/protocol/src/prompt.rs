//! A prompt: bounded, wiped when dropped, never printed.

use std::fmt;

use thiserror::Error;

use crate::SecretString;

/// What `style: vivid` appends to a prompt; told back to the client as `revised_prompt`.
pub const VIVID_SUFFIX: &str = ", vivid colors, dramatic lighting, highly detailed";

/// A prompt of 1 to 1000 characters (Unicode scalar values) unless a node takes more, not all of them
/// blank.
///
/// Wiped when dropped. It implements neither `Clone` nor `Serialize`, and prints as
/// `Prompt(42 bytes)`.
pub struct Prompt(SecretString);

impl Prompt {
    /// The longest prompt, in characters, where a node says nothing else.
    pub const MAX_CHARS: usize = 1000;

    /// Takes the text over.
    ///
    /// # Errors
    /// Where the text is blank or longer than [`Prompt::MAX_CHARS`].
    pub fn new(text: impl Into<SecretString>) -> Result<Self, InvalidPrompt> {
        Self::with_limit(text, Self::MAX_CHARS)
    }

    /// Takes the text over, where a node has a bound of its own.
    ///
    /// # Errors
    /// Where the text is blank or longer than `max_chars`.
    pub fn with_limit(
        text: impl Into<SecretString>,
        max_chars: usize,
    ) -> Result<Self, InvalidPrompt> {
        let text = text.into();
        if text.trim().is_empty() {
            return Err(InvalidPrompt::Empty);
        }
        if text.chars().count() > max_chars {
            return Err(InvalidPrompt::TooLong { max_chars });
        }
        Ok(Self(text))
    }

    /// The same prompt with [`VIVID_SUFFIX`] behind it. The suffix does not count towards the
    /// limit, which is a promise about what clients may send.
    #[must_use]
    pub fn vivid(self) -> Self {
        let mut text = SecretString::with_capacity(self.0.len() + VIVID_SUFFIX.len());
        text.push_str(&self.0);
        text.push_str(VIVID_SUFFIX);
        Self(text)
    }

    /// The text itself, for the encoders and for the sealed response; never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prompt({} bytes)", self.0.len())
    }
}

/// Why a text is no [`Prompt`]. Never carries the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidPrompt {
    /// Nothing but blanks.
    #[error("must not be empty")]
    Empty,
    /// Too many characters.
    #[error("must be at most {max_chars} characters long")]
    TooLong {
        /// The most that are accepted.
        max_chars: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_characters_not_bytes() {
        assert!(Prompt::new("狐".repeat(1000)).is_ok());
        assert_eq!(
            Prompt::new("狐".repeat(1001)).unwrap_err(),
            InvalidPrompt::TooLong { max_chars: 1000 }
        );
        for blank in ["", " ", "\n\t\u{3000}"] {
            assert_eq!(Prompt::new(blank.to_owned()).unwrap_err(), InvalidPrompt::Empty);
        }
    }

    #[test]
    fn does_not_print_its_text() {
        let prompt = Prompt::new("a red fox".to_owned()).unwrap();
        assert_eq!(format!("{prompt:?}"), "Prompt(9 bytes)");
    }

    #[test]
    fn vivid_appends_even_at_the_limit() {
        let prompt = Prompt::new("x".repeat(1000)).unwrap().vivid();
        assert!(prompt.expose().ends_with(VIVID_SUFFIX));
    }
}
