//! The ACPI tables that QEMU builds for a machine, as the firmware gets them: three blobs, measured one
//! by one before the loader's script patches them.

use super::{MeasureError, MeasuredEvent};

const MAX_BLOB_BYTES: usize = 4 * 1024 * 1024;
const LOADER_ENTRY: usize = 128;
/// Of ACPI 1.0, and of 2.0 and later (ACPI 6.5, §5.2.5.3).
const RSDP_BYTES: [usize; 2] = [20, 36];
const LOADER: &str = "etc/table-loader";
const RSDP: &str = "etc/acpi/rsdp";
const TABLES: &str = "etc/acpi/tables";

/// What lies at these names in QEMU's `fw_cfg`.
#[derive(Debug, Clone, Copy)]
pub struct AcpiTables {
    events: [MeasuredEvent; 3],
}

impl AcpiTables {
    /// Takes `etc/table-loader`, `etc/acpi/rsdp`, `etc/acpi/tables`, in this order.
    ///
    /// # Errors
    /// Where one is not of its form.
    pub fn new(loader: &[u8], rsdp: &[u8], tables: &[u8]) -> Result<Self, MeasureError> {
        for (blob, bytes) in [(LOADER, loader), (RSDP, rsdp), (TABLES, tables)] {
            if bytes.is_empty() || bytes.len() > MAX_BLOB_BYTES {
                return Err(MeasureError::Acpi { blob, problem: "is empty, or longer than 4 MiB" });
            }
        }
        if !loader.len().is_multiple_of(LOADER_ENTRY) {
            let problem = "is not of entries of 128 bytes";
            return Err(MeasureError::Acpi { blob: LOADER, problem });
        }
        if !rsdp.starts_with(b"RSD PTR ") || !RSDP_BYTES.contains(&rsdp.len()) {
            return Err(MeasureError::Acpi { blob: RSDP, problem: "is no root pointer" });
        }
        // FACS comes first, which is no table with a checksum.
        if !tables.starts_with(b"FACS") {
            return Err(MeasureError::Acpi { blob: TABLES, problem: "does not begin with FACS" });
        }
        Ok(Self::of([loader, rsdp, tables].map(super::sha384)))
    }

    pub(super) fn of([loader, rsdp, tables]: [crate::event_log::Rtmr; 3]) -> Self {
        Self {
            events: [
                MeasuredEvent::new("ACPI loader script", loader),
                MeasuredEvent::new("ACPI root pointer", rsdp),
                MeasuredEvent::new("ACPI tables", tables),
            ],
        }
    }

    pub(super) fn events(&self) -> [MeasuredEvent; 3] {
        self.events
    }
}
