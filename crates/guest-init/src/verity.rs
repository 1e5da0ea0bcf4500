//! A dm-verity tree as the command line and the settings name it (Linux,
//! `Documentation/admin-guide/device-mapper/verity.rst`).
//!
//! ```text
//! BLOCKS:HASH_START:SALT:ROOT     blocks of 4096 bytes; the tree begins at block HASH_START of the same disk
//! ```
//! No superblock: what a disk says of itself would be the host's word.

use std::{fmt, str::FromStr};

use crate::{error::GuestError, hex, unhex};

const BLOCK_BYTES: u64 = 4096;
/// 64 TiB.
const MAX_BLOCKS: u64 = 1 << 34;

/// Everything that a block's validity depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    data_blocks: u64,
    hash_start: u64,
    salt: [u8; 32],
    root: [u8; 32],
}

/// What the kernel does with a block that is not the tree's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCorruption {
    /// Ends the machine: without its root nothing can go on.
    Panic,
    /// Fails the read.
    Fail,
}

impl Tree {
    /// The size of the device that opens, in sectors of 512 bytes.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.data_blocks * (BLOCK_BYTES / 512)
    }

    /// The SHA-256 at the tree's root.
    #[must_use]
    pub fn root_hex(&self) -> String {
        hex(&self.root)
    }

    /// The device mapper's line for this tree on a disk.
    #[must_use]
    pub fn table(&self, disk: &str, on_corruption: OnCorruption) -> String {
        let Self { data_blocks, hash_start, salt, root } = self;
        let (root, salt) = (hex(root), hex(salt));
        let options = match on_corruption {
            OnCorruption::Panic => " 1 panic_on_corruption",
            OnCorruption::Fail => "",
        };
        format!(
            "1 {disk} {disk} {BLOCK_BYTES} {BLOCK_BYTES} {data_blocks} {hash_start} sha256 {root} {salt}{options}"
        )
    }
}

impl FromStr for Tree {
    type Err = GuestError;

    fn from_str(text: &str) -> Result<Self, GuestError> {
        let parts: Vec<&str> = text.split(':').collect();
        let &[blocks, start, salt, root] = parts.as_slice() else { return Err(GuestError::Tree) };
        let tree = Self {
            data_blocks: number(blocks).ok_or(GuestError::Tree)?,
            hash_start: number(start).ok_or(GuestError::Tree)?,
            salt: unhex(salt).ok_or(GuestError::Tree)?,
            root: unhex(root).ok_or(GuestError::Tree)?,
        };
        // A tree inside its own data would be no tree.
        let placed = 0 < tree.data_blocks
            && tree.data_blocks <= tree.hash_start
            && tree.hash_start <= MAX_BLOCKS;
        placed.then_some(tree).ok_or(GuestError::Tree)
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data_blocks, hash_start, salt, root } = self;
        write!(f, "{data_blocks}:{hash_start}:{}:{}", hex(salt), hex(root))
    }
}

/// Digits alone: `parse` would take a sign as well, and a number would have two forms.
fn number(text: &str) -> Option<u64> {
    let one_form =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| one_form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(blocks: &str, start: &str) -> String {
        format!("{blocks}:{start}:{}:{}", "0a".repeat(32), "b1".repeat(32))
    }

    #[test]
    fn a_tree_has_one_form() {
        let tree: Tree = text("7", "9").parse().unwrap();
        assert_eq!(tree.to_string(), text("7", "9"));
        assert_eq!(tree.sectors(), 56);
        let table = tree.table("/dev/vda", OnCorruption::Panic);
        let (root, salt) = ("b1".repeat(32), "0a".repeat(32));
        assert_eq!(
            table,
            format!("1 /dev/vda /dev/vda 4096 4096 7 9 sha256 {root} {salt} 1 panic_on_corruption")
        );
        for other in [
            text("7", "9").to_uppercase(),
            text("+7", "9"),
            text("07", "9"),
            text("0", "9"),
            text("9", "7"),
            text("7", "99999999999"),
            text("7", "9 "),
            text("7", "9") + ":",
            text("7", "9")[1..].to_owned(),
            String::new(),
        ] {
            assert!(other.parse::<Tree>().is_err(), "{other}");
        }
    }
}
