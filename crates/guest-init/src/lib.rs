//! What the guest's first process reads and writes, apart from the kernel it asks: parsers of what comes
//! from the host, and the bytes that go to the kernel and the network.
//!
//! Whoever runs the machine writes the disks and answers on the network. So everything from there has a
//! bounded length and one form, and nothing of it can change who reads a prompt: [`settings`] takes only
//! what an operator is free to say; the rest stands in the measured root.

pub mod command_line;
pub mod dhcp;
pub mod disk;
pub mod error;
pub mod host_binding;
pub mod netlink;
pub mod node_config;
pub mod rtmr3;
pub mod settings;
pub mod verity;

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `N` bytes from as many pairs of lower-case hexadecimal digits.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
