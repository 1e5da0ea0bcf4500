//! Firmware images whose metadata are not what they should be.

use super::tdx_firmware;
use crate::{
    encoding::hex,
    measure::{AcpiTables, Firmware, MeasureError, Memory, Platform, firmware::PAGE},
    tests::fixture,
};

const GIB: u64 = 1 << 30;
const METADATA: usize = 0x400;

fn acpi() -> AcpiTables {
    AcpiTables::new(&[0; 128], b"RSD PTR 000000000000", b"FACS").unwrap()
}

fn platform(image: &[u8], bytes: u64) -> Result<Platform, MeasureError> {
    Platform::new(&Firmware::new(image)?, Memory::new(bytes)?, &acpi())
}

/// Patched at a place in the TDX metadata.
fn patched(at: usize, bytes: &[u8]) -> String {
    let mut image = tdx_firmware();
    let at = image.len() - METADATA + at;
    image[at..at + bytes.len()].copy_from_slice(bytes);
    platform(&image, 2 * GIB).map(|_| ()).unwrap_err().to_string()
}

/// By the Python that tests/clients/python/test_measure.py holds the program against.
#[test]
fn a_synthetic_firmware_has_its_mrtd() {
    let platform = platform(&tdx_firmware(), 2 * GIB).unwrap();
    assert_eq!(hex(&platform.mrtd), MRTD);
    assert_eq!(platform.rtmr0_events().len(), 13);
}

const MRTD: &str = "b03e332259d694034b4065fa4f9ce35eb8e796f1c176780b3c2cadbfe5679ee38fd9de037b2e6dcd40cfbafe186fbc63";

#[test]
fn every_byte_of_code_counts_and_every_page_of_the_layout() {
    let image = tdx_firmware();
    let mrtd = platform(&image, 2 * GIB).unwrap().mrtd;
    for at in [8 * PAGE, 8 * PAGE + 255, 12 * PAGE, 16 * PAGE - 1] {
        let mut other = image.clone();
        other[at] ^= 1;
        assert_ne!(platform(&other, 2 * GIB).unwrap().mrtd, mrtd, "{at}");
    }
    // A variable is in RTMR0, not in MRTD.
    let mut other = image.clone();
    other[0] ^= 1;
    let other = platform(&other, 2 * GIB).unwrap();
    assert_eq!(other.mrtd, mrtd);
    assert_ne!(other.rtmr0(), platform(&image, 2 * GIB).unwrap().rtmr0());
}

#[test]
fn sections_that_no_firmware_has_are_refused_by_number() {
    let section = |index: usize, field: usize| 16 + 32 * index + field;
    let number = |value: u32| value.to_le_bytes();
    for (at, bytes, says) in [
        (0, number(0), "TDVF"),
        (4, number(16), "version or length"),
        (8, number(2), "version or length"),
        (12, number(0), "version or length"),
        (12, number(u32::MAX), "version or length"),
        (section(0, 0), number(u32::MAX), "section 0 of the firmware's TDX metadata: its data"),
        (section(0, 4), number(0), "section 0"),
        (section(0, 4), number(0x9000), "section 0"),
        (
            section(0, 8),
            number(0xffff_8001),
            "section 0 of the firmware's TDX metadata: not of whole",
        ),
        (section(0, 12), number(1), "below 4 GiB"),
        (section(0, 20), number(1), "below 4 GiB"),
        (section(0, 16), number(0), "not of whole pages"),
        (section(0, 28), number(0), "not measured into MRTD"),
        (section(0, 28), number(2), "attributes"),
        (section(1, 24), number(0), "one TD HOB and one volume"),
        (section(2, 4), number(1), "section 2"),
        (section(2, 24), number(3), "one TD HOB"),
        (section(3, 24), number(4), "section 3 of the firmware's TDX metadata: of a kind"),
        (section(3, 16), number(0xa000), "overlaps another"),
    ] {
        let refusal = patched(at, &bytes);
        assert!(refusal.contains(says), "{at}: {refusal}");
    }
}

#[test]
fn memory_that_the_firmware_does_not_fit_in_is_refused() {
    assert!(platform(&tdx_firmware(), 8 << 20).unwrap_err().to_string().contains("memory"));
    for bytes in [0, 1, GIB + 1, u64::MAX] {
        assert!(Memory::new(bytes).is_err(), "{bytes}");
    }
    for gib in [1, 2, 3, 64, 1024] {
        platform(&tdx_firmware(), gib * GIB).unwrap();
    }
}

#[test]
fn what_is_no_firmware_is_refused() {
    for bytes in [&[][..], &[0; 1], &[0; PAGE], &[0xff; 4 * PAGE], b"\x7fELF"] {
        assert!(Firmware::new(bytes).is_err());
    }
    // The tail of an image lacks what its metadata name; another has none for SEV.
    let suffix = fixture("guest/ovmf_AmdSev_suffix.bin");
    let refusal = platform(&suffix, GIB).unwrap_err().to_string();
    assert!(refusal.contains("outside the image"), "{refusal}");
    let image = tdx_firmware();
    assert!(Firmware::new(&image).unwrap().sev_sections().is_err());
}

/// Whatever a byte is changed to, there is an answer, and no panic.
#[test]
fn no_mutation_panics() {
    let tdx = tdx_firmware();
    let sev = fixture("guest/ovmf_AmdSev_suffix.bin");
    let read = |image: &[u8]| {
        if let Ok(firmware) = Firmware::new(image) {
            drop(firmware.tdx_sections());
            drop(firmware.sev_sections());
            drop((firmware.sev_hash_table(), firmware.sev_reset_address()));
        }
    };
    for image in [tdx, sev] {
        let tail = image.len() - 1100.min(image.len());
        for at in tail..image.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut other = image.clone();
                other[at] = value;
                read(&other);
            }
        }
        for cut in (0..image.len()).step_by(PAGE) {
            read(&image[cut..]);
        }
    }
}
