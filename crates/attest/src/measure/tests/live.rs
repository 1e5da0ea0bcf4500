//! Two TDX guests that another project published, of 2 and of 64 GiB: what of their boot does not depend
//! on files that nobody published is computed here, and leads to the registers that Intel's keys signed.

use serde_json::Value;

use crate::{
    encoding::{hex, unhex, unhex_array},
    event_log::Rtmr,
    measure::{
        AcpiTables, FirmwareLog, Image, Memory,
        firmware::{TdxKind, TdxSection},
        hob,
        image::ImageHashes,
        platform::rtmr0_events,
        replay, sha384,
    },
    tests::fixture,
};

const GIB: u64 = 1 << 30;
/// In a quote of version 4: after 48 bytes of header, 328 of report.
const RTMR0: usize = 48 + 328;

struct Guest {
    registers: [Rtmr; 4],
    log: FirmwareLog,
    digests: Vec<(usize, Rtmr)>,
}

fn guest(name: &str) -> Guest {
    let report: Value = serde_json::from_slice(&fixture(name)).unwrap();
    let quote = unhex(report["quote"].as_str().unwrap()).unwrap();
    let register = |index: usize| quote[RTMR0 + 48 * index..][..48].try_into().unwrap();
    let text = report["event_log"].as_str().unwrap();
    let events: Vec<Value> = serde_json::from_str(text).unwrap();
    let digest = |event: &Value| {
        let imr = usize::try_from(event["imr"].as_u64()?).ok()?;
        Some((imr, unhex_array(event["digest"].as_str()?)?))
    };
    Guest {
        registers: [0, 1, 2, 3].map(register),
        log: FirmwareLog::parse(text.as_bytes()).unwrap(),
        digests: events.iter().filter_map(digest).collect(),
    }
}

impl Guest {
    fn digest(&self, register: usize, index: usize) -> Rtmr {
        let mut of = self.digests.iter().filter(|(imr, _)| *imr == register);
        of.nth(index).unwrap().1
    }
}

/// Of the firmware of both guests, by the metadata that was published beside one of them.
fn sections() -> Vec<TdxSection<'static>> {
    let section =
        |kind, address, bytes| TdxSection { kind, data: &[], address, bytes, extended: false };
    vec![
        section(TdxKind::Temporary, 0x81_0000, 0x1_0000),
        section(TdxKind::Temporary, 0x80_b000, 0x2000),
        section(TdxKind::Hob, 0x80_9000, 0x2000),
        section(TdxKind::Temporary, 0x80_0000, 0x6000),
    ]
}

/// OVMF's empty volume of variables, 528 KiB: headers, and ones.
fn empty_variables() -> Vec<u8> {
    let mut volume = vec![0xff; 540_672];
    for (at, bytes) in [
        (
            0,
            "000000000000000000000000000000008d2bf1ff96768b4ca9852747075b4f5000400800000000005f465648\
             fffe04004800afb80000000284000000001000000000000000000000782cf3aa7b949a43a1802e144ec37792\
             b8ff03005afe000000000000",
        ),
        (266_240, "2b29589e687c7d49a0ce6500fd9f1b952caf2c64feffffffe00f000000000000"),
    ] {
        let bytes = unhex(bytes).unwrap();
        volume[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    volume
}

#[test]
fn rtmr0_is_computed_but_for_the_acpi_tables() {
    for (name, gib) in [("guest/tdx-2g.json", 2), ("guest/tdx-64g.json", 64)] {
        let guest = guest(name);
        let list = hob::blocks(&sections(), Memory::new(gib * GIB).unwrap()).unwrap();
        // Nobody published the tables themselves; events 8 to 10 are taken from the log.
        let acpi = AcpiTables::of([8, 9, 10].map(|index| guest.digest(0, index)));
        let events = rtmr0_events(sha384(&list), sha384(&empty_variables()), &acpi);
        assert_eq!(hex(&replay(&events)), hex(&guest.registers[0]), "{name}");
        assert_eq!(guest.log.differences(0, &events), []);
        // Another size of memory is another machine, and the log says which event tells.
        let other = hob::blocks(&sections(), Memory::new(3 * GIB).unwrap()).unwrap();
        let events = rtmr0_events(sha384(&other), sha384(&empty_variables()), &acpi);
        assert_ne!(replay(&events), guest.registers[0]);
        let differences = guest.log.differences(0, &events);
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences[0].to_string().starts_with("RTMR0 event 0, list of memory (TD HOB)"));
    }
}

#[test]
fn rtmr1_and_rtmr2_hold_what_is_computed_around_the_files_digests() {
    for name in ["guest/tdx-2g.json", "guest/tdx-64g.json"] {
        let guest = guest(name);
        // Kernel, command line and initrd were not published; their digests are.
        let image = Image {
            kernel: guest.digest(1, 0),
            options: guest.digest(2, 0),
            initrd: guest.digest(2, 1),
            sha256: ImageHashes { kernel: [0; 32], initrd: [0; 32], command_line: [0; 32] },
        };
        assert_eq!(image.rtmr1_events().len(), 5);
        assert_eq!(hex(&image.rtmr1()), hex(&guest.registers[1]), "{name}");
        assert_eq!(hex(&image.rtmr2()), hex(&guest.registers[2]), "{name}");
        assert_eq!(guest.log.differences(1, &image.rtmr1_events()), []);
        assert_eq!(guest.log.differences(2, &image.rtmr2_events()), []);
    }
}

#[test]
fn the_logs_replay() {
    for name in ["guest/tdx-2g.json", "guest/tdx-64g.json"] {
        let guest = guest(name);
        assert_eq!(guest.log.replay()[..3], guest.registers[..3], "{name}");
    }
}
