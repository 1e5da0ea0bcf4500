//! configfs-tsm.

use std::{io, path::Path};

use super::{EBUSY, EFBIG, EINTR, Kernel};
use crate::evidence::{EvidenceError, Tsm, files::Disk, tsm::Provider};

fn tsm(kernel: &Kernel) -> Tsm {
    Tsm::new(Box::new(kernel.clone()), Path::new("/tsm"), Provider::Tdx)
}

#[test]
fn a_quote_holds_what_was_asked_and_leaves_nothing_behind() {
    let kernel = Kernel::tdx();
    let mut tsm = tsm(&kernel);
    for byte in [1, 2] {
        assert_eq!(tsm.quote(&[byte; 64]).unwrap()[568..632], [byte; 64]);
    }
    assert_eq!(kernel.set(|state| (state.entries.len(), state.entries_made)), (0, 2));
}

#[test]
fn a_kernel_that_is_busy_is_asked_again_and_not_for_ever() {
    let kernel = Kernel::tdx();
    kernel.set(|state| {
        state.write_errors = vec![EBUSY, EINTR];
        state.read_errors = vec![EINTR, EBUSY, EBUSY];
    });
    assert!(tsm(&kernel).quote(&[1; 64]).is_ok());
    kernel.set(|state| state.write_errors = vec![EBUSY; 100]);
    let refusal = tsm(&kernel).quote(&[1; 64]).unwrap_err();
    let EvidenceError::Io { source, .. } = refusal else { panic!("{refusal}") };
    assert_eq!(source.kind(), io::ErrorKind::ResourceBusy);
    assert!(kernel.set(|state| state.entries.is_empty()));
}

#[test]
fn the_wrong_provider_is_named() {
    let kernel = Kernel::tdx();
    kernel.set(|state| state.provider = "sev_guest");
    let refusal = tsm(&kernel).quote(&[1; 64]).unwrap_err();
    assert_eq!(refusal.to_string(), "the TEE is `sev_guest`, not `tdx_guest`");
    assert!(kernel.set(|state| state.entries.is_empty()));
}

#[test]
fn a_second_writer_shows() {
    let kernel = Kernel::tdx();
    kernel.set(|state| state.disturbed = true);
    assert!(matches!(tsm(&kernel).quote(&[1; 64]), Err(EvidenceError::Raced)));
}

#[test]
fn a_quote_is_whole_or_none() {
    let kernel = Kernel::tdx();
    for bytes in [0, 3, 631, 635, 636, 645] {
        let mut quote = kernel.set(|state| state.quote.clone());
        quote.truncate(bytes);
        let short = Kernel::tdx();
        short.set(|state| state.quote = quote);
        let refusal = tsm(&short).quote(&[1; 64]).unwrap_err();
        assert!(matches!(refusal, EvidenceError::Truncated { bytes: n } if n == bytes));
    }
    kernel.set(|state| state.quote = vec![4; 40 * 1024]);
    assert!(matches!(tsm(&kernel).quote(&[1; 64]), Err(EvidenceError::TooLarge { .. })));
    kernel.set(|state| state.read_errors = vec![EFBIG]);
    assert!(matches!(tsm(&kernel).quote(&[1; 64]), Err(EvidenceError::TooLarge { .. })));
}

#[test]
fn real_quotes_are_whole() {
    for name in ["tdx/v4.quote", "tdx/v5-td15ex.quote"] {
        let kernel = Kernel::tdx();
        kernel.set(|state| state.quote = crate::tests::fixture(name));
        assert!(tsm(&kernel).quote(&[1; 64]).is_ok(), "{name}");
        kernel.set(|state| {
            // What follows the quote in the sample is padding.
            let bytes = state.quote.iter().rposition(|byte| *byte != 0).unwrap();
            state.quote.truncate(bytes - 600);
        });
        let refusal = tsm(&kernel).quote(&[1; 64]);
        assert!(matches!(refusal, Err(EvidenceError::Truncated { .. })), "{name}");
    }
    let mut snp = Tsm::new(Box::new(Kernel::tdx()), Path::new("/tsm"), Provider::Snp);
    assert!(matches!(snp.quote(&[1; 64]), Err(EvidenceError::WrongProvider { .. })));
}

#[test]
fn a_kernel_without_the_interface_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("nowhere");
    let mut tsm = Tsm::new(Box::new(Disk), &root, Provider::Tdx);
    assert!(matches!(tsm.quote(&[1; 64]), Err(EvidenceError::NoTsm { .. })));
}

/// A directory is not configfs: it stays empty, and the attempt is cleaned up.
#[test]
fn an_entry_that_stays_empty_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let mut tsm = Tsm::new(Box::new(Disk), root.path(), Provider::Tdx);
    assert!(matches!(tsm.quote(&[1; 64]), Err(EvidenceError::Io { .. })));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}
