//! Where a setting was said.

use std::{fmt, path::PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    File { path: PathBuf, line: usize },
    Environment,
    Flag,
}

impl Source {
    /// Where to mend it: a file's line too.
    pub(super) fn place(&self) -> String {
        match self {
            Self::File { path, line } => format!("{}, line {line}", path.display()),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File { .. } => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// The line that a key of a flat file stands in, from 1.
pub(super) fn line_of(text: &str, key: &str) -> usize {
    let header = format!("[[{key}]]");
    let says = |line: &str| {
        let line = line.trim();
        if line == header {
            return true;
        }
        let rest = line.strip_prefix(key).or_else(|| {
            let quote = line.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            line[1..].strip_prefix(key)?.strip_prefix(quote)
        });
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    1 + text.lines().position(says).unwrap_or(0)
}
