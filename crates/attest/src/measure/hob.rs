//! The list of memory that QEMU hands to a TDX guest's firmware, which measures it first of all.
//!
//! A hand-off block list (UEFI PI 1.8, volume 3): a header, then a resource descriptor for each piece of
//! memory, accepted already (the sections that QEMU added) or not. Its end marker is not measured.

use super::{
    MeasureError, Memory,
    firmware::{TdxKind, TdxSection},
};

/// Above this much memory, QEMU's q35 keeps less below 4 GiB.
const LARGE: u64 = 0xb000_0000;
const LOW_OF_LARGE: u64 = 0x8000_0000;
const HIGH: u64 = 1 << 32;
const HEADER_BYTES: u64 = 56;
const END_BYTES: u64 = 8;
/// EFI_RESOURCE_SYSTEM_MEMORY, EFI_RESOURCE_MEMORY_UNACCEPTED.
const ACCEPTED: u32 = 0;
const UNACCEPTED: u32 = 7;
/// Present, initialised, tested.
const ATTRIBUTES: u32 = 7;

/// The blocks that are measured.
pub(super) fn blocks(sections: &[TdxSection<'_>], memory: Memory) -> Result<Vec<u8>, MeasureError> {
    let outside = MeasureError::Memory { problem: "does not hold what the firmware asks for" };
    let list = sections.iter().find(|section| section.kind == TdxKind::Hob);
    let list = list.ok_or(outside.clone())?.address;
    let low = if memory.bytes() >= LARGE { LOW_OF_LARGE } else { memory.bytes() };
    let mut taken: Vec<_> = sections
        .iter()
        .filter(|section| matches!(section.kind, TdxKind::Hob | TdxKind::Temporary))
        .map(|section| (section.address, section.address + section.bytes))
        .collect();
    taken.sort_unstable();

    let mut body = Vec::new();
    let mut at = 0;
    for (start, end) in taken {
        if end > low {
            return Err(outside);
        }
        if start > at {
            body.extend(descriptor(UNACCEPTED, at, start - at));
        }
        body.extend(descriptor(ACCEPTED, start, end - start));
        at = end;
    }
    if low > at {
        body.extend(descriptor(UNACCEPTED, at, low - at));
    }
    if memory.bytes() > low {
        body.extend(descriptor(UNACCEPTED, HIGH, memory.bytes() - low));
    }
    let end = list + HEADER_BYTES + body.len() as u64 + END_BYTES;
    Ok([header(end), body].concat())
}

/// EFI_HOB_HANDOFF_INFO_TABLE, of which QEMU fills in the end alone.
fn header(end: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(1_u16.to_le_bytes());
    header.extend(56_u16.to_le_bytes());
    header.extend([0; 4]);
    header.extend(9_u32.to_le_bytes());
    header.extend([0; 4 + 4 * 8]);
    header.extend(end.to_le_bytes());
    header
}

/// EFI_HOB_RESOURCE_DESCRIPTOR, without an owner.
fn descriptor(kind: u32, start: u64, bytes: u64) -> Vec<u8> {
    let mut block = Vec::new();
    block.extend(3_u16.to_le_bytes());
    block.extend(48_u16.to_le_bytes());
    block.extend([0; 4 + 16]);
    block.extend(kind.to_le_bytes());
    block.extend(ATTRIBUTES.to_le_bytes());
    block.extend(start.to_le_bytes());
    block.extend(bytes.to_le_bytes());
    block
}
