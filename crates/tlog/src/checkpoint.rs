//! The root of a log at one time (C2SP `tlog-checkpoint`): three lines, of which a note is made.
//!
//! ```text
//! log.example/obscura
//! 7
//! BASE64 of the root
//! ```

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::{error::TlogError, tree::Hash};

/// How many entries, and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is its key's too.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// The root of the tree over its entries (RFC 6962, 2.1).
    pub root: Hash,
}

impl Checkpoint {
    /// Reads the text of a note. Lines that extend the form are refused: none is known.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, TlogError> {
        let read = || {
            let lines: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
            let &[origin, size, root] = lines.as_slice() else { return None };
            let root = BASE64.decode(root).ok()?.try_into().ok()?;
            (!origin.is_empty()).then_some(Self {
                origin: origin.to_owned(),
                size: number(size)?,
                root,
            })
        };
        read().ok_or(TlogError::Checkpoint)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, BASE64.encode(self.root))
    }
}

/// Decimal digits, in one form.
pub(crate) fn number(text: &str) -> Option<u64> {
    let one_form = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| one_form && text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_one_form() {
        let checkpoint = Checkpoint { origin: "log.example".to_owned(), size: 7, root: [1; 32] };
        let text = checkpoint.to_string();
        assert_eq!(Checkpoint::parse(&text).unwrap(), checkpoint);
        for refused in [
            text.replacen('7', "07", 1),
            text.replacen('7', "+7", 1),
            text.replacen('7', "-7", 1),
            text.trim_end().to_owned(),
            format!("{text}more\n"),
            format!("\n{}", text.split_once('\n').unwrap().1),
            text.replace('=', ""),
        ] {
            assert!(Checkpoint::parse(&refused).is_err(), "{refused}");
        }
    }
}
