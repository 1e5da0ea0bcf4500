//! MRTD: what the TDX module hashes while the host builds the guest.
//!
//! ```text
//! for each page of each section   "MEM.PAGE.ADD" ‖ 0… ‖ address ‖ 0…       128 bytes
//!   for each 256 bytes of it      "MR.EXTEND" ‖ 0… ‖ address ‖ 0…          128 bytes, ‖ the 256 bytes
//! MRTD = SHA-384 of all of these                     (Intel TDX module, TDH.MEM.PAGE.ADD, TDH.MR.EXTEND)
//! ```
//! A page is extended right after it is added: as Linux ≥ 6.16 does (KVM_TDX_INIT_MEM_REGION).

use sha2::{Digest, Sha384};

use super::{Firmware, MeasureError, firmware::PAGE};
use crate::event_log::Rtmr;

const CHUNK: usize = 256;

/// MRTD of a guest that begins in this firmware.
pub(super) fn mrtd(firmware: &Firmware<'_>) -> Result<Rtmr, MeasureError> {
    let mut hash = Sha384::new();
    for section in firmware.tdx_sections()? {
        let mut contents = section.data.chunks(PAGE);
        let addresses = (section.address..section.address + section.bytes).step_by(PAGE);
        for address in addresses {
            hash.update(step(b"MEM.PAGE.ADD", address));
            if !section.extended {
                continue;
            }
            let mut page = [0; PAGE];
            if let Some(contents) = contents.next() {
                page[..contents.len()].copy_from_slice(contents);
            }
            for (chunk, at) in page.chunks(CHUNK).zip((address..).step_by(CHUNK)) {
                hash.update(step(b"MR.EXTEND", at));
                hash.update(chunk);
            }
        }
    }
    Ok(hash.finalize().into())
}

fn step(name: &[u8], address: u64) -> [u8; 128] {
    let mut step = [0; 128];
    step[..name.len()].copy_from_slice(name);
    step[16..24].copy_from_slice(&address.to_le_bytes());
    step
}
