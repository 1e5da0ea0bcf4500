//! Against published evidence of live machines, and against files that are not what they should be.

mod firmware;
mod kernel;
mod live;
mod log;
mod refused;
mod snp;

use crate::measure::firmware::PAGE;

/// A firmware image for TDX of 64 KiB: metadata, code, variables, as edk2 lays them out.
pub(super) fn tdx_firmware() -> Vec<u8> {
    let sections = [
        // BFV, CFV, TD HOB, and two pieces of memory.
        (0x8000_u32, 0x8000_u32, 0xffff_8000_u64, 0x8000_u64, 0_u32, 1_u32),
        (0, 0x8000, 0xffff_0000, 0x8000, 1, 0),
        (0, 0, 0x80_9000, 0x2000, 2, 0),
        (0, 0, 0x80_0000, 0x6000, 3, 0),
        (0, 0, 0x81_0000, 0x1_0000, 3, 0),
    ];
    let mut image = vec![0xff; 16 * PAGE];
    for (index, byte) in image.iter_mut().enumerate().skip(8 * PAGE) {
        *byte = u8::try_from(index * 7 % 251).unwrap();
    }
    let mut metadata = b"TDVF".to_vec();
    metadata.extend(u32::try_from(16 + 32 * sections.len()).unwrap().to_le_bytes());
    metadata.extend(1_u32.to_le_bytes());
    metadata.extend(u32::try_from(sections.len()).unwrap().to_le_bytes());
    for (offset, raw, address, bytes, kind, attributes) in sections {
        metadata.extend(offset.to_le_bytes());
        metadata.extend(raw.to_le_bytes());
        metadata.extend(address.to_le_bytes());
        metadata.extend(bytes.to_le_bytes());
        metadata.extend(kind.to_le_bytes());
        metadata.extend(attributes.to_le_bytes());
    }
    let from_end = 0x400;
    let at = image.len() - from_end;
    image[at..at + metadata.len()].copy_from_slice(&metadata);

    let entry = |data: &[u8], guid: &str| {
        let bytes = u16::try_from(data.len() + 18).unwrap();
        [data, &bytes.to_le_bytes(), &crate::encoding::unhex(guid).unwrap()].concat()
    };
    let metadata_entry =
        entry(&u32::try_from(from_end).unwrap().to_le_bytes(), "35657ae44a989847865e4685a7bf8ec2");
    let bytes = u16::try_from(metadata_entry.len() + 18).unwrap();
    let table = crate::encoding::unhex("de82b596b21ff745baeaa366c55a082d").unwrap();
    let table = [&metadata_entry[..], &bytes.to_le_bytes(), &table].concat();
    let end = image.len() - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

/// The smallest EFI image: headers, two sections, and something after them.
pub(super) fn kernel() -> Vec<u8> {
    let mut file = vec![0; 0x200];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file[0x40..0x44].copy_from_slice(b"PE\0\0");
    file[0x44..0x46].copy_from_slice(&0x8664_u16.to_le_bytes());
    file[0x46] = 2;
    file[0x54..0x56].copy_from_slice(&0xa0_u16.to_le_bytes());
    let optional = 0x58;
    file[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
    file[optional + 60..optional + 64].copy_from_slice(&0x200_u32.to_le_bytes());
    file[optional + 64..optional + 68].copy_from_slice(b"SUM!");
    file[optional + 108] = 6;
    for (index, (bytes, at)) in [(0x100_u32, 0x200_u32), (0x80, 0x300)].into_iter().enumerate() {
        let section = optional + 0xa0 + 40 * index;
        file[section + 16..section + 20].copy_from_slice(&bytes.to_le_bytes());
        file[section + 20..section + 24].copy_from_slice(&at.to_le_bytes());
    }
    file.extend([1; 0x100]);
    file.extend([2; 0x80]);
    file.extend([3; 0x40]);
    file
}
