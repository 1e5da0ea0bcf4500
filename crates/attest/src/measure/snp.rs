//! The launch digest of a SEV-SNP guest: what its chip signs as MEASUREMENT.
//!
//! ```text
//! digest_0     = 48 zero bytes
//! digest_{i+1} = SHA-384(digest_i ‖ SHA-384(page) ‖ 0x70, 2 bytes ‖ kind ‖ 0… ‖ address)    112 bytes
//! ```
//! (AMD 56860, SEV-SNP firmware ABI, §8.17.2 PAGE_INFO.) In QEMU's order: the firmware's pages, the pages
//! that its metadata name, a page of registers for each vCPU. Registers are laid out by the `sev` crate.

use std::str::FromStr;

use sev::measurement::{
    vcpu_types::CpuType,
    vmsa::{GuestFeatures, VMMType, VMSA},
};
use sha2::{Digest, Sha384};

use super::{
    Firmware, Image, MeasureError, Vcpus,
    firmware::{PAGE, SevKind, SevSection, guid},
    image::ImageHashes,
};
use crate::event_log::Rtmr;

/// Pages by kind (AMD 56860, table 67).
const NORMAL: u8 = 1;
const REGISTERS: u8 = 2;
const ZERO: u8 = 3;
const SECRETS: u8 = 5;
const CPUID: u8 = 6;
/// Where registers are said to lie: the highest page there is.
const REGISTERS_ADDRESS: u64 = 0xffff_ffff_f000;
const UNHASHED: Rtmr = [0; 48];

/// SNPActive, without which a guest is no SNP guest.
const SNP_ACTIVE: u64 = 1;
/// Bits that have a name (AMD 24593, table B-4, SEV_FEATURES).
const KNOWN_FEATURES: u64 = 0xd7ff;

const TABLE: [u8; 16] =
    guid(0x9438_d606, 0x4f22, 0x4cc9, [0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21]);
const KERNEL: [u8; 16] =
    guid(0x4de7_9437, 0xabd2, 0x427f, [0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b]);
const INITRD: [u8; 16] =
    guid(0x44ba_f731, 0x3a2f, 0x4bd7, [0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d]);
const COMMAND_LINE: [u8; 16] =
    guid(0x97d0_2dd8, 0xbd20, 0x4c94, [0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a]);
/// Its header, three entries, and zeros up to the next 16 bytes.
const TABLE_BYTES: usize = 176;

/// A SEV-SNP machine, as far as it is measured.
#[derive(Debug, Clone, Copy)]
pub struct SnpMachine {
    cpu: CpuModel,
    vcpus: Vcpus,
    features: u64,
}

impl SnpMachine {
    /// A machine of QEMU's.
    #[must_use]
    pub fn new(cpu: CpuModel, vcpus: Vcpus) -> Self {
        Self { cpu, vcpus, features: SNP_ACTIVE }
    }

    /// With other SEV_FEATURES than QEMU's own, which is SNPActive alone.
    ///
    /// # Errors
    /// Where they make no SNP guest, or are not known.
    pub fn with_features(self, features: u64) -> Result<Self, MeasureError> {
        let problem = |problem| Err(MeasureError::GuestFeatures { problem });
        if features & SNP_ACTIVE == 0 {
            return problem("lack SNPActive (bit 0)");
        }
        if features & !KNOWN_FEATURES != 0 {
            return problem("set bits that have no meaning");
        }
        Ok(Self { features, ..self })
    }
}

/// The launch digest of this image on this machine.
///
/// # Errors
/// Where the firmware is not one that measures the digests of kernel, initrd and command line: then the
/// digest would say nothing of what runs.
pub fn snp_launch_digest(
    firmware: &Firmware<'_>,
    image: &Image,
    machine: &SnpMachine,
) -> Result<Rtmr, MeasureError> {
    let mut launch = Launch(UNHASHED);
    launch.normal(firmware.address(), firmware.image());
    let (table, bytes) = firmware.sev_hash_table()?;
    if bytes < TABLE_BYTES as u64 {
        return Err(MeasureError::Firmware { problem: "its table of kernel hashes is too short" });
    }
    let layout =
        Layout { sections: firmware.sev_sections()?, table, reset: firmware.sev_reset_address()? };
    layout.finish(launch, &image.sha256, machine)
}

/// What the metadata name.
pub(super) struct Layout {
    pub(super) sections: Vec<SevSection>,
    /// Address of the table of hashes.
    pub(super) table: u64,
    /// Where all vCPUs but the first begin.
    pub(super) reset: u32,
}

impl Layout {
    /// Goes on where the firmware's own pages are measured.
    pub(super) fn finish(
        &self,
        mut launch: Launch,
        hashes: &ImageHashes,
        machine: &SnpMachine,
    ) -> Result<Rtmr, MeasureError> {
        let page = self.table - self.table % PAGE as u64;
        let of = |kind| self.sections.iter().filter(move |section| section.kind == kind);
        let unmeasured = MeasureError::Firmware {
            problem: "it does not measure the digests of kernel, initrd and command line at launch",
        };
        match (of(SevKind::KernelHashes).next(), of(SevKind::KernelHashes).count()) {
            (Some(section), 1) if section.address == page => {}
            _ => return Err(unmeasured),
        }
        let at = usize::try_from(self.table - page).unwrap_or(PAGE);
        let table = hash_page(hashes, at).ok_or(unmeasured)?;
        for section in &self.sections {
            match section.kind {
                SevKind::Memory | SevKind::CallingArea => {
                    let addresses = section.address..section.address + section.bytes;
                    addresses.step_by(PAGE).for_each(|at| launch.page(ZERO, at, &UNHASHED));
                }
                SevKind::Secrets => launch.page(SECRETS, section.address, &UNHASHED),
                SevKind::Cpuid => launch.page(CPUID, section.address, &UNHASHED),
                SevKind::KernelHashes => launch.normal(section.address, &table),
            }
        }
        let number = usize::try_from(machine.vcpus.number()).unwrap_or(usize::MAX);
        let no_registers = MeasureError::Firmware { problem: "its vCPUs begin nowhere" };
        let vmsa = VMSA::new(
            u64::from(self.reset),
            machine.cpu.0,
            VMMType::QEMU,
            Some(number as u64),
            GuestFeatures(machine.features),
        );
        // One page for the first, the same for each of the others.
        let pages = vmsa.pages(number.min(2)).map_err(|_| no_registers.clone())?;
        for index in 0..number {
            let registers = pages.get(index.min(1)).ok_or(no_registers.clone())?;
            launch.page(REGISTERS, REGISTERS_ADDRESS, &super::sha384(registers));
        }
        Ok(launch.0)
    }
}

/// The digest as far as it has come.
pub(super) struct Launch(pub(super) Rtmr);

impl Launch {
    fn normal(&mut self, address: u64, bytes: &[u8]) {
        for (page, at) in bytes.chunks(PAGE).zip((address..).step_by(PAGE)) {
            self.page(NORMAL, at, &super::sha384(page));
        }
    }

    fn page(&mut self, kind: u8, address: u64, contents: &Rtmr) {
        self.0 = Sha384::new()
            .chain_update(self.0)
            .chain_update(contents)
            .chain_update(0x70_u16.to_le_bytes())
            // Its kind; no IMI; no permissions for VMPL 3 to 1; reserved.
            .chain_update([kind, 0, 0, 0, 0, 0])
            .chain_update(address.to_le_bytes())
            .finalize()
            .into();
    }
}

/// The page that holds the table of hashes, zeros around it.
fn hash_page(hashes: &ImageHashes, at: usize) -> Option<[u8; PAGE]> {
    let entry = |name: [u8; 16], value: &[u8]| {
        let bytes = u16::try_from(16 + 2 + value.len()).ok()?;
        Some([&name[..], &bytes.to_le_bytes(), value].concat())
    };
    let entries = [
        entry(COMMAND_LINE, &hashes.command_line)?,
        entry(INITRD, &hashes.initrd)?,
        entry(KERNEL, &hashes.kernel)?,
    ];
    let table = entry(TABLE, &entries.concat())?;
    let mut page = [0; PAGE];
    page.get_mut(at..at.checked_add(TABLE_BYTES)?)?.get_mut(..table.len())?.copy_from_slice(&table);
    Some(page)
}

/// A CPU model of QEMU's that SEV-SNP guests have: its signature is in each vCPU's registers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuModel(CpuType);

impl CpuModel {
    const ALL: [CpuType; 18] = [
        CpuType::Epyc,
        CpuType::EpycV1,
        CpuType::EpycV2,
        CpuType::EpycIBPB,
        CpuType::EpycV3,
        CpuType::EpycV4,
        CpuType::EpycRome,
        CpuType::EpycRomeV1,
        CpuType::EpycRomeV2,
        CpuType::EpycRomeV3,
        CpuType::EpycMilan,
        CpuType::EpycMilanV1,
        CpuType::EpycMilanV2,
        CpuType::EpycGenoa,
        CpuType::EpycGenoaV1,
        CpuType::EpycTurin,
        CpuType::EpycTurinV1,
        CpuType::EpycTurinV2,
    ];

    /// As QEMU calls it.
    #[must_use]
    pub fn name(self) -> String {
        self.0.to_string()
    }
}

impl FromStr for CpuModel {
    type Err = MeasureError;

    fn from_str(name: &str) -> Result<Self, MeasureError> {
        let mut all = Self::ALL.into_iter();
        all.find(|model| model.to_string() == name).map(Self).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(ToString::to_string).collect();
            MeasureError::CpuModel { known: known.join(", ") }
        })
    }
}
