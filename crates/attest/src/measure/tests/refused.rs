//! Inputs that are neither firmware nor kernel nor log.

use crate::measure::{AcpiTables, Name};

#[test]
fn acpi_blobs_of_another_form_are_refused_by_name() {
    let (loader, rsdp, tables) = ([0; 256], *b"RSD PTR 0123456789abcdefghij01234567", *b"FACS0000");
    assert!(AcpiTables::new(&loader, &rsdp, &tables).is_ok());
    for (loader, rsdp, tables, says) in [
        (&loader[..100], &rsdp[..], &tables[..], "etc/table-loader"),
        (&[], &rsdp, &tables, "etc/table-loader"),
        (&loader, &rsdp[..30], &tables, "etc/acpi/rsdp"),
        (&loader, &tables, &rsdp, "etc/acpi/rsdp"),
        (&loader, &rsdp, b"DSDT", "etc/acpi/tables"),
    ] {
        let refusal = AcpiTables::new(loader, rsdp, tables).unwrap_err().to_string();
        assert!(refusal.contains(says), "{refusal}");
    }
}

#[test]
fn a_name_cannot_leave_its_line_of_toml() {
    for name in ["", "a\"\nmrtd = \"", "a\\", "a\nb", "é", &"a".repeat(97)] {
        assert!(name.parse::<Name>().is_err(), "{name:?}");
    }
    assert_eq!("0.1.0, 16 vCPU".parse::<Name>().unwrap().to_string(), "0.1.0, 16 vCPU");
}
