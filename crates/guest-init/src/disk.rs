//! Small disks by which the host hands the guest a text: virtio disks, found by their serial.
//!
//! ```text
//! obscura/settings/v1 LENGTH\n  LENGTH bytes  zeros to the end of what is read
//! ```

use std::io::{Read, Result as IoResult};

use crate::error::GuestError;

/// A kind of small disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The virtio serial, at most 20 bytes.
    pub serial: &'static str,
    /// How what lies on it begins.
    pub head: &'static str,
    /// The most that the text has.
    pub max_bytes: usize,
}

/// What the operator decides.
pub const SETTINGS: Kind =
    Kind { serial: "obscura-settings", head: "obscura/settings/v1", max_bytes: 64 * 1024 };
/// What quotes are verified with. Read again every few minutes: it ends, and the operator renews it.
pub const COLLATERAL: Kind =
    Kind { serial: "obscura-collateral", head: "obscura/collateral/v1", max_bytes: 1024 * 1024 };
/// The root file system and its tree.
pub const ROOT_SERIAL: &str = "obscura-root";
/// The model's files and their tree.
pub const MODEL_SERIAL: &str = "obscura-model";

/// The longest decimal length, its space and its newline.
const LENGTH_BYTES: usize = 12;

impl Kind {
    /// Reads as much of the disk as this kind may have, and no more.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    pub fn read(&self, disk: impl Read) -> IoResult<Vec<u8>> {
        let most = self.head.len() + LENGTH_BYTES + self.max_bytes;
        let mut bytes = Vec::new();
        disk.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The text that lies on it.
    ///
    /// # Errors
    /// Where it is not framed as it should be.
    pub fn text<'a>(&self, disk: &'a [u8]) -> Result<&'a [u8], GuestError> {
        self.framed(disk).ok_or(GuestError::Frame { head: self.head, max: self.max_bytes })
    }

    fn framed<'a>(&self, disk: &'a [u8]) -> Option<&'a [u8]> {
        let rest = disk.strip_prefix(self.head.as_bytes())?.strip_prefix(b" ")?;
        let end = rest.iter().take(LENGTH_BYTES).position(|&byte| byte == b'\n')?;
        let digits = str::from_utf8(&rest[..end]).ok()?;
        let one_form = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let length: usize = digits.parse().ok().filter(|_| one_form)?;
        let (text, zeros) = rest[end + 1..].split_at_checked(length)?;
        (length <= self.max_bytes && zeros.iter().all(|&byte| byte == 0)).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(disk: &[u8]) -> Option<Vec<u8>> {
        SETTINGS.text(disk).ok().map(<[u8]>::to_vec)
    }

    #[test]
    fn a_text_is_as_long_as_it_says_and_nothing_follows() {
        assert_eq!(text(b"obscura/settings/v1 3\nabc\0\0").as_deref(), Some(&b"abc"[..]));
        assert_eq!(text(b"obscura/settings/v1 3\nabc").as_deref(), Some(&b"abc"[..]));
        let long = format!("obscura/settings/v1 65537\n{}", "a".repeat(65537));
        for refused in [
            &b"obscura/settings/v1 3\nabcd"[..],
            b"obscura/settings/v1 3\nabc\0d",
            b"obscura/settings/v1 4\nabc",
            b"obscura/settings/v1 03\nabc",
            b"obscura/settings/v1 +3\nabc",
            b"obscura/settings/v1 \nabc",
            b"obscura/settings/v1 0\n",
            b"obscura/settings/v2 3\nabc",
            b"obscura/settings/v1 18446744073709551615\nabc",
            b"obscura/settings/v1  3\nabc",
            b"\0\0\0",
            b"",
            long.as_bytes(),
        ] {
            assert_eq!(text(refused), None);
        }
    }

    #[test]
    fn no_more_of_a_disk_is_read_than_it_may_hold() {
        let endless = std::io::repeat(b'0');
        assert_eq!(SETTINGS.read(endless).unwrap().len(), 64 * 1024 + 12 + 19);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(disk in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = text(&disk);
            let framed = [b"obscura/settings/v1 ", disk.as_slice()].concat();
            let _ = text(&framed);
        }
    }
}
