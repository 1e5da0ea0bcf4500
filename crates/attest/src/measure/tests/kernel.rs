//! Kernels, as EFI images.

use sha2::{Digest, Sha384};

use super::kernel;
use crate::measure::{CommandLine, Image, pe::authenticode};

const OPTIONAL: usize = 0x58;

#[test]
fn the_digest_leaves_out_checksum_and_certificates_and_nothing_else() {
    let file = kernel();
    let expected = Sha384::new()
        .chain_update(&file[..OPTIONAL + 64])
        .chain_update(&file[OPTIONAL + 68..OPTIONAL + 144])
        .chain_update(&file[OPTIONAL + 152..])
        .finalize();
    assert_eq!(authenticode(&file).unwrap()[..], expected[..]);

    let mut signed = file.clone();
    let at = u32::try_from(signed.len()).unwrap();
    signed.extend([9; 64]);
    signed[OPTIONAL + 144..OPTIONAL + 148].copy_from_slice(&at.to_le_bytes());
    signed[OPTIONAL + 148..OPTIONAL + 152].copy_from_slice(&64_u32.to_le_bytes());
    signed[OPTIONAL + 64] ^= 1;
    assert_eq!(authenticode(&signed).unwrap()[..], expected[..]);

    for at in (0..file.len()).filter(|at| !(OPTIONAL + 64..OPTIONAL + 68).contains(at)) {
        let mut other = file.clone();
        other[at] ^= 1;
        assert_ne!(
            authenticode(&other).ok().as_ref().map(|digest| &digest[..]),
            Some(&expected[..]),
            "{at}"
        );
    }
}

#[test]
fn what_is_no_efi_image_is_refused() {
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = kernel();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        authenticode(&file).unwrap_err().to_string()
    };
    for (at, bytes, says) in [
        (0, &b"ZM"[..], "MZ"),
        (0x3c, &[0xff; 4], "outside"),
        (0x40, b"NE", "no PE header"),
        (0x44, &0xaa64_u16.to_le_bytes(), "another processor"),
        (0x46, &[0, 0], "sections"),
        (0x46, &[0xff, 0xff], "sections"),
        (OPTIONAL, &[0x0b, 1], "PE32+"),
        (OPTIONAL + 60, &[0xff; 4], "sections"),
        (OPTIONAL + 108, &[2, 0, 0, 0], "certificates"),
        (OPTIONAL + 144, &[0xff; 8], "certificates"),
        (OPTIONAL + 0xa0 + 16, &[0xff; 4], "outside"),
        (OPTIONAL + 0xa0 + 20, &[0x10, 2, 0, 0], "follow"),
    ] {
        let refusal = patched(at, bytes);
        assert!(refusal.contains(says), "{at}: {refusal}");
    }
    for length in 0..kernel().len() - 0x40 {
        assert!(authenticode(&kernel()[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_command_line_is_what_reaches_the_kernel() {
    for line in ["", "a\n", " a", "a ", "a\tb", "é", &"a".repeat(2048)] {
        assert!(line.parse::<CommandLine>().is_err(), "{line:?}");
    }
    let line: CommandLine = "console=ttyS0".parse().unwrap();
    assert_eq!(line.as_str(), "console=ttyS0");
    for (kernel, initrd) in [(&b""[..], &b"i"[..]), (&kernel(), b"")] {
        assert!(Image::new(kernel, initrd, &line).is_err());
    }
    let one = Image::new(&kernel(), b"i", &line).unwrap();
    let other = Image::new(&kernel(), b"i", &"console=ttyS1".parse().unwrap()).unwrap();
    assert_eq!(one.rtmr1(), other.rtmr1());
    assert_ne!(one.rtmr2(), other.rtmr2());
}
