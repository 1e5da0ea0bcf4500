//! A firmware image of edk2's, and what its metadata asks the host to do before the guest runs.
//!
//! The image ends at 4 GiB. Before its last 32 bytes lies a table of entries, each `data ‖ length ‖
//! GUID`, read from its end (OvmfPkg/ResetVector). One entry leads to the TDX metadata (Intel, TDX
//! Virtual Firmware Design Guide 1.01, §11), one to SEV's (OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).

use super::{
    MeasureError,
    bytes::{array, place_at, slice, u16_at, u32_at, u64_at},
};

/// Several times the largest there is.
pub const MAX_FIRMWARE_BYTES: usize = 64 * 1024 * 1024;
pub(super) const PAGE: usize = 4096;

const RESET_VECTOR: usize = 32;
/// Length, then GUID: what follows an entry's data.
const ENTRY_END: usize = 18;
const MAX_ENTRIES: usize = 32;
const MAX_SECTIONS: u32 = 64;

const TABLE: [u8; 16] =
    guid(0x96b5_82de, 0x1fb2, 0x45f7, [0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d]);
const TDX_METADATA: [u8; 16] =
    guid(0xe47a_6535, 0x984a, 0x4798, [0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2]);
const SEV_METADATA: [u8; 16] =
    guid(0xdc88_6566, 0x984a, 0x4798, [0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc]);
const SEV_HASH_TABLE: [u8; 16] =
    guid(0x7255_371f, 0x3a3b, 0x4b04, [0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54]);
const SEV_RESET_BLOCK: [u8; 16] =
    guid(0x00f7_71de, 0x1a7e, 0x4fcb, [0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e]);

/// A firmware image.
#[derive(Debug, Clone, Copy)]
pub struct Firmware<'a> {
    image: &'a [u8],
}

/// A GUID, and the data that it names.
type TableEntry<'a> = ([u8; 16], &'a [u8]);

/// What a section of the TDX metadata is for. QEMU loads no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TdxKind {
    /// Code.
    BootFirmware,
    /// EFI variables, which are measured into RTMR0.
    Configuration,
    /// Where the host says which memory there is.
    Hob,
    /// Zeros to start with.
    Temporary,
}

/// A section of the TDX metadata; its addresses are of whole pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct TdxSection<'a> {
    pub(super) kind: TdxKind,
    /// What of the file it holds; zeros follow to `bytes`.
    pub(super) data: &'a [u8],
    /// Where it goes.
    pub(super) address: u64,
    pub(super) bytes: u64,
    /// Whether its contents are measured into MRTD, and not its place alone.
    pub(super) extended: bool,
}

/// What a section of the SEV metadata is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SevKind {
    Memory,
    Secrets,
    Cpuid,
    CallingArea,
    KernelHashes,
}

/// A section of the SEV metadata; whole pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct SevSection {
    pub(super) kind: SevKind,
    pub(super) address: u64,
    pub(super) bytes: u64,
}

impl<'a> Firmware<'a> {
    /// Reads an image.
    ///
    /// # Errors
    /// Where it is empty, too long, of other than whole pages, or ends in no table of entries.
    pub fn new(image: &'a [u8]) -> Result<Self, MeasureError> {
        if image.is_empty() {
            return Err(MeasureError::Empty { input: "firmware" });
        }
        if image.len() > MAX_FIRMWARE_BYTES {
            let max_bytes = MAX_FIRMWARE_BYTES;
            return Err(MeasureError::TooLong { input: "firmware", max_bytes });
        }
        if !image.len().is_multiple_of(PAGE) {
            return Err(problem("not a whole number of pages of 4096 bytes"));
        }
        let firmware = Self { image };
        firmware.entries()?;
        Ok(firmware)
    }

    /// All of the file, which ends at 4 GiB.
    pub(super) fn image(&self) -> &'a [u8] {
        self.image
    }

    /// Where its first byte goes.
    pub(super) fn address(&self) -> u64 {
        (1 << 32) - self.image.len() as u64
    }

    /// What the TDX metadata asks for.
    pub(super) fn tdx_sections(&self) -> Result<Vec<TdxSection<'a>>, MeasureError> {
        let data = self.entry(&TDX_METADATA)?.ok_or(problem("it has no TDX metadata"))?;
        let header =
            self.place_from_end(data).ok_or(problem("its TDX metadata lie outside of it"))?;
        if array(self.image, header) != Some(*b"TDVF") {
            return Err(problem("its TDX metadata do not begin with TDVF"));
        }
        let [length, version, count] =
            [4, 8, 12].map(|at| u32_at(self.image, header + at).unwrap_or_default());
        if version != 1 || count == 0 || count > MAX_SECTIONS || length != 16 + 32 * count {
            return Err(problem("its TDX metadata are of another version or length"));
        }
        let sections: Vec<_> = (0..count as usize)
            .map(|index| self.tdx_section(header + 16 + 32 * index, index))
            .collect::<Result<_, _>>()?;
        let of = |kind| sections.iter().filter(|section| section.kind == kind).count();
        if of(TdxKind::Hob) != 1 || of(TdxKind::Configuration) != 1 {
            return Err(problem(
                "its TDX metadata do not name one TD HOB and one volume of variables",
            ));
        }
        let code = |section: &TdxSection<'_>| section.kind == TdxKind::BootFirmware;
        if of(TdxKind::BootFirmware) == 0 || sections.iter().any(|one| code(one) && !one.extended) {
            return Err(problem("its code is not measured into MRTD"));
        }
        apart(sections.iter().map(|section| (section.address, section.bytes)), "TDX")?;
        Ok(sections)
    }

    fn tdx_section(&self, at: usize, index: usize) -> Result<TdxSection<'a>, MeasureError> {
        let problem = |problem| MeasureError::Section { metadata: "TDX", index, problem };
        let read = || -> Option<_> {
            let (offset, raw) = (place_at(self.image, at)?, place_at(self.image, at + 4)?);
            let (address, bytes) = (u64_at(self.image, at + 8)?, u64_at(self.image, at + 16)?);
            let (kind, attributes) = (u32_at(self.image, at + 24)?, u32_at(self.image, at + 28)?);
            Some((offset, raw, address, bytes, kind, attributes))
        };
        let (offset, raw, address, bytes, kind, attributes) =
            read().ok_or(problem("it lies outside the image"))?;
        let kind = match kind {
            0 => TdxKind::BootFirmware,
            1 => TdxKind::Configuration,
            2 => TdxKind::Hob,
            3 => TdxKind::Temporary,
            _ => return Err(problem("of a kind that QEMU does not load")),
        };
        let extended = match attributes {
            0 => false,
            1 => true,
            _ => return Err(problem("of attributes that QEMU does not know")),
        };
        pages(address, bytes).ok_or(problem("not of whole pages below 4 GiB"))?;
        let from_file = matches!(kind, TdxKind::BootFirmware | TdxKind::Configuration);
        if from_file != (raw > 0) || raw as u64 > bytes {
            return Err(problem("holds more of the file than it should, or less"));
        }
        let data = slice(self.image, if from_file { offset } else { 0 }, raw);
        let data = data.ok_or(problem("its data lie outside the image"))?;
        Ok(TdxSection { kind, data, address, bytes, extended })
    }

    /// What the SEV metadata ask for, in their order.
    pub(super) fn sev_sections(&self) -> Result<Vec<SevSection>, MeasureError> {
        let data = self.entry(&SEV_METADATA)?.ok_or(problem("it has no SEV metadata"))?;
        let header =
            self.place_from_end(data).ok_or(problem("its SEV metadata lie outside of it"))?;
        if array(self.image, header) != Some(*b"ASEV") {
            return Err(problem("its SEV metadata do not begin with ASEV"));
        }
        let [length, version, count] =
            [4, 8, 12].map(|at| u32_at(self.image, header + at).unwrap_or_default());
        if version != 1 || count == 0 || count > MAX_SECTIONS || length < 16 + 12 * count {
            return Err(problem("its SEV metadata are of another version or length"));
        }
        let sections: Vec<_> = (0..count as usize)
            .map(|index| self.sev_section(header + 16 + 12 * index, index))
            .collect::<Result<_, _>>()?;
        apart(sections.iter().map(|section| (section.address, section.bytes)), "SEV")?;
        Ok(sections)
    }

    fn sev_section(&self, at: usize, index: usize) -> Result<SevSection, MeasureError> {
        let problem = |problem| MeasureError::Section { metadata: "SEV", index, problem };
        let read = || {
            Some((
                u32_at(self.image, at)?,
                u32_at(self.image, at + 4)?,
                u32_at(self.image, at + 8)?,
            ))
        };
        let (address, bytes, kind) = read().ok_or(problem("it lies outside the image"))?;
        let kind = match kind {
            1 => SevKind::Memory,
            2 => SevKind::Secrets,
            3 => SevKind::Cpuid,
            4 => SevKind::CallingArea,
            0x10 => SevKind::KernelHashes,
            _ => return Err(problem("of a kind that QEMU does not know")),
        };
        let (address, bytes) = (u64::from(address), u64::from(bytes));
        pages(address, bytes).ok_or(problem("not of whole pages below 4 GiB"))?;
        let one = matches!(kind, SevKind::Secrets | SevKind::Cpuid | SevKind::KernelHashes);
        if one && bytes != PAGE as u64 {
            return Err(problem("not of one page"));
        }
        Ok(SevSection { kind, address, bytes })
    }

    /// Where the host writes the digests of kernel, initrd and command line: address, and length.
    pub(super) fn sev_hash_table(&self) -> Result<(u64, u64), MeasureError> {
        let data =
            self.entry(&SEV_HASH_TABLE)?.ok_or(problem("it names no table of kernel hashes"))?;
        match (u32_at(data, 0), u32_at(data, 4), data.len()) {
            (Some(address), Some(bytes), 8) if address != 0 => Ok((address.into(), bytes.into())),
            _ => Err(problem("its table of kernel hashes lies nowhere")),
        }
    }

    /// Where every vCPU but the first begins.
    pub(super) fn sev_reset_address(&self) -> Result<u32, MeasureError> {
        let data = self.entry(&SEV_RESET_BLOCK)?.ok_or(problem("it has no SEV-ES reset block"))?;
        u32_at(data, 0)
            .filter(|_| data.len() == 4)
            .ok_or(problem("its SEV-ES reset block is malformed"))
    }

    fn entry(&self, wanted: &[u8; 16]) -> Result<Option<&'a [u8]>, MeasureError> {
        let mut found = self.entries()?.into_iter().filter(|(guid, _)| guid == wanted);
        match (found.next(), found.next()) {
            (first, None) => Ok(first.map(|(_, data)| data)),
            _ => Err(problem("an entry of its table is there twice")),
        }
    }

    /// The entries before the reset vector, from the last to the first.
    fn entries(&self) -> Result<Vec<TableEntry<'a>>, MeasureError> {
        let no_table = problem("no table of GUIDs lies before its reset vector");
        let end = self.image.len() - RESET_VECTOR;
        let name = end - 16;
        if array(self.image, name) != Some(TABLE) {
            return Err(no_table);
        }
        let length = usize::from(u16_at(self.image, name - 2).ok_or(no_table.clone())?);
        let low = end.checked_sub(length).filter(|_| length >= ENTRY_END).ok_or(no_table)?;
        let (mut at, mut entries) = (end - ENTRY_END, Vec::new());
        let malformed = problem("the table before its reset vector is malformed");
        while at > low {
            let entry = || {
                let guid = array(self.image, at.checked_sub(16)?)?;
                let length = usize::from(u16_at(self.image, at.checked_sub(ENTRY_END)?)?);
                let start = at.checked_sub(length).filter(|start| *start >= low)?;
                let data = length.checked_sub(ENTRY_END)?;
                Some((guid, start, slice(self.image, start, data)?))
            };
            let (guid, start, data) = entry().ok_or(malformed.clone())?;
            if entries.len() == MAX_ENTRIES {
                return Err(malformed);
            }
            entries.push((guid, data));
            at = start;
        }
        Ok(entries)
    }

    /// A place by the last four bytes of an entry: its distance from the end of the file.
    fn place_from_end(&self, data: &[u8]) -> Option<usize> {
        let distance = place_at(data, data.len().checked_sub(4)?)?;
        self.image.len().checked_sub(distance)
    }
}

/// Of whole pages, some, below 4 GiB: gives the end.
fn pages(address: u64, bytes: u64) -> Option<u64> {
    let whole = |number: u64| number.is_multiple_of(PAGE as u64);
    let end = address.checked_add(bytes)?;
    (whole(address) && whole(bytes) && bytes > 0 && end <= 1 << 32).then_some(end)
}

/// No two sections may claim a page: what the second writes would not be what the first measured.
fn apart(
    ranges: impl Iterator<Item = (u64, u64)>,
    metadata: &'static str,
) -> Result<(), MeasureError> {
    let mut ranges: Vec<_> = ranges.enumerate().collect();
    ranges.sort_by_key(|(_, (address, _))| *address);
    for pair in ranges.windows(2) {
        if let [(_, (address, bytes)), (index, (next, _))] = *pair
            && address + bytes > next
        {
            return Err(MeasureError::Section { metadata, index, problem: "overlaps another" });
        }
    }
    Ok(())
}

fn problem(problem: &'static str) -> MeasureError {
    MeasureError::Firmware { problem }
}

/// A GUID's bytes, as they lie in memory (UEFI 2.10, appendix A).
pub(super) const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> [u8; 16] {
    let ([a, b, c, d], [e, f], [g, h]) =
        (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let [i, j, k, l, m, n, o, p] = rest;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}
