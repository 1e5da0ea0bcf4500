//! The kernel's command line, which RTMR2 and SEV-SNP's launch digest hold.

use crate::{error::GuestError, verity::Tree};

const PREFIX: &str = "obscura.";
const ROOT: &str = "obscura.root=";
const REPORT: &str = "obscura.report";

/// The words of it that are for the first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLine {
    /// The root file system.
    pub root: Tree,
    /// Whether processes, sockets and the firmware's log are told on the console: for trials. It shows
    /// nothing of requests, and the registers show that it is on.
    pub report: bool,
}

impl CommandLine {
    /// Reads `/proc/cmdline`. Words without our prefix are the kernel's.
    ///
    /// # Errors
    /// Where the root is not named once, or a word of ours is not known.
    pub fn parse(text: &str) -> Result<Self, GuestError> {
        let (mut root, mut report) = (None, false);
        for word in text.split_ascii_whitespace().filter(|word| word.starts_with(PREFIX)) {
            if let Some(tree) = word.strip_prefix(ROOT) {
                if root.replace(tree.parse()?).is_some() {
                    return Err(GuestError::CommandLine { word: ROOT });
                }
            } else if word == REPORT {
                report = true;
            } else {
                return Err(GuestError::UnknownWord);
            }
        }
        let root = root.ok_or(GuestError::CommandLine { word: ROOT })?;
        Ok(Self { root, report })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_named_once_and_nothing_is_guessed() {
        let tree = format!("1:1:{0}:{0}", "00".repeat(32));
        let line =
            |words: &str| CommandLine::parse(&format!("console=ttyS0 {words} initrd=initrd\n"));
        let root = format!("obscura.root={tree}");
        assert!(!line(&root).unwrap().report);
        assert!(line(&format!("{root} obscura.report")).unwrap().report);
        assert!(matches!(line(""), Err(GuestError::CommandLine { .. })));
        assert!(matches!(line(&format!("{root} {root}")), Err(GuestError::CommandLine { .. })));
        for unknown in ["obscura.report=1", "obscura.disk=/dev/vdb", "obscura.rooot=x"] {
            let refused = line(&format!("{root} {unknown}"));
            assert!(matches!(refused, Err(GuestError::UnknownWord)), "{unknown}");
        }
    }
}
