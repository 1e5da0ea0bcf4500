//! The platform's part of a boot: MRTD and RTMR0, the same for every image on one shape of machine.

use super::{
    AcpiTables, Firmware, MeasureError, MeasuredEvent, Memory,
    firmware::{TdxKind, guid},
    hob,
    mrtd::mrtd,
    replay, utf16,
};
use crate::event_log::Rtmr;

/// EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE_GUID (UEFI 2.10, §3.3, §32.6).
const GLOBAL: [u8; 16] =
    guid(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
const SECURITY: [u8; 16] =
    guid(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
/// Where OVMF keeps its menu, which is its one boot option: volume, then file (OvmfPkg's DXEFV; MdeModulePkg's UiApp).
const MENU_VOLUME: [u8; 16] =
    guid(0x7cb8_bdc9, 0xf8eb, 0x4f34, [0xaa, 0xea, 0x3e, 0xe4, 0xaf, 0x65, 0x16, 0xa1]);
const MENU_FILE: [u8; 16] =
    guid(0x462c_aa21, 0x7614, 0x4503, [0x83, 0x6e, 0x8a, 0xb6, 0xf4, 0x66, 0x23, 0x31]);

/// A TDX machine, before anything of ours runs in it.
#[derive(Debug, Clone)]
pub struct Platform {
    /// MRTD.
    pub mrtd: Rtmr,
    events: Vec<MeasuredEvent>,
}

impl Platform {
    /// Computes it. The number of vCPUs and the devices are in the ACPI tables, and nowhere else.
    ///
    /// # Errors
    /// Where the firmware is not one that this computes, or asks for memory that is not there.
    pub fn new(
        firmware: &Firmware<'_>,
        memory: Memory,
        acpi: &AcpiTables,
    ) -> Result<Self, MeasureError> {
        let sections = firmware.tdx_sections()?;
        let variables = sections.iter().find(|section| section.kind == TdxKind::Configuration);
        let variables = variables.map(|section| section.data).unwrap_or_default();
        let list = super::sha384(&hob::blocks(&sections, memory)?);
        let events = rtmr0_events(list, super::sha384(variables), acpi);
        Ok(Self { mrtd: mrtd(firmware)?, events })
    }

    /// RTMR0's events.
    #[must_use]
    pub fn rtmr0_events(&self) -> &[MeasuredEvent] {
        &self.events
    }

    /// RTMR0.
    #[must_use]
    pub fn rtmr0(&self) -> Rtmr {
        replay(&self.events)
    }
}

/// In the order in which OVMF measures them.
pub(super) fn rtmr0_events(list: Rtmr, variables: Rtmr, acpi: &AcpiTables) -> Vec<MeasuredEvent> {
    let none = |what, vendor, name| MeasuredEvent::of(what, &empty_variable(vendor, name));
    let mut events = vec![
        MeasuredEvent::new("list of memory (TD HOB)", list),
        MeasuredEvent::new("volume of EFI variables", variables),
        none("Secure Boot, off", GLOBAL, "SecureBoot"),
        none("Secure Boot's PK, none", GLOBAL, "PK"),
        none("Secure Boot's KEK, none", GLOBAL, "KEK"),
        none("Secure Boot's db, none", SECURITY, "db"),
        none("Secure Boot's dbx, none", SECURITY, "dbx"),
        MeasuredEvent::of("separator", &[0; 4]),
    ];
    events.extend(acpi.events());
    events.push(MeasuredEvent::of("BootOrder", &[0; 2]));
    events.push(MeasuredEvent::of("Boot0000", &boot_option()));
    events
}

/// UEFI_VARIABLE_DATA of a variable that is not there (TCG PC Client Platform Firmware Profile 1.06, §10.4.2).
fn empty_variable(vendor: [u8; 16], name: &str) -> Vec<u8> {
    let mut event = vendor.to_vec();
    event.extend((name.len() as u64).to_le_bytes());
    event.extend(0_u64.to_le_bytes());
    event.extend(utf16(name));
    event
}

/// EFI_LOAD_OPTION of OVMF's menu (UEFI 2.10, §3.1.3): active, hidden, an application.
fn boot_option() -> Vec<u8> {
    let mut option = 0x109_u32.to_le_bytes().to_vec();
    option.extend(44_u16.to_le_bytes());
    option.extend(utf16("UiApp"));
    option.extend([0; 2]);
    for (kind, name) in [(7, MENU_VOLUME), (6, MENU_FILE)] {
        option.extend([4, kind, 20, 0]);
        option.extend(name);
    }
    option.extend([0x7f, 0xff, 4, 0]);
    option
}
