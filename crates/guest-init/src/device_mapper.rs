//! Opens verity devices (Linux, `include/uapi/linux/dm-ioctl.h`, version 4).

use std::{
    ffi::c_void,
    fs::{File, OpenOptions},
};

use guest_init::{
    error::{Attempt, GuestError},
    verity::{OnCorruption, Tree},
};
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};

const CONTROL: &str = "/dev/mapper/control";
const CREATE: u8 = 3;
const SUSPEND: u8 = 6;
const LOAD: u8 = 9;
const READ_ONLY: u32 = 1;

/// `struct dm_ioctl`, and where its fields are.
const HEAD_BYTES: usize = 312;
const DATA_SIZE_AT: usize = 12;
const DATA_START_AT: usize = 16;
const TARGETS_AT: usize = 20;
const FLAGS_AT: usize = 28;
const DEVICE_AT: usize = 40;
const NAME_AT: usize = 48;
/// `struct dm_target_spec`: first sector, sectors, status, next, kind.
const TARGET_BYTES: usize = 40;
const BUFFER_BYTES: usize = 4096;

/// Opens a read-only device over a tree on a disk. Gives its path.
pub(crate) fn open(
    name: &str,
    disk: &str,
    tree: &Tree,
    on_corruption: OnCorruption,
) -> Result<String, GuestError> {
    let what = |step| format!("opening the tree of {disk} ({step})");
    let control = OpenOptions::new().read(true).write(true).open(CONTROL).at(CONTROL)?;
    let created = Request::new(CREATE, name, 0).call(&control).at(what("create"))?;
    Request::new(LOAD, name, READ_ONLY)
        .verity(tree.sectors(), &tree.table(disk, on_corruption))
        .call(&control)
        .at(what("load"))?;
    // Not suspended any more: the table that was loaded is in force.
    Request::new(SUSPEND, name, 0).call(&control).at(what("resume"))?;
    Ok(format!("/dev/dm-{}", created.minor()))
}

/// A request, and after the call what the kernel made of it.
#[repr(C, align(8))]
struct Buffer([u8; BUFFER_BYTES]);

struct Request {
    opcode: Opcode,
    buffer: Box<Buffer>,
}

impl Request {
    fn new(command: u8, name: &str, flags: u32) -> Self {
        let mut buffer = Box::new(Buffer([0; BUFFER_BYTES]));
        let bytes = &mut buffer.0;
        put(bytes, 0, &4u32.to_ne_bytes());
        put(bytes, DATA_SIZE_AT, &(BUFFER_BYTES as u32).to_ne_bytes());
        put(bytes, DATA_START_AT, &(HEAD_BYTES as u32).to_ne_bytes());
        put(bytes, FLAGS_AT, &flags.to_ne_bytes());
        put(bytes, NAME_AT, name.as_bytes());
        let opcode = ioctl::opcode::read_write::<[u8; HEAD_BYTES]>(0xfd, command);
        Self { opcode, buffer }
    }

    /// Adds one target over all of the device.
    fn verity(mut self, sectors: u64, table: &str) -> Self {
        let bytes = &mut self.buffer.0;
        put(bytes, TARGETS_AT, &1u32.to_ne_bytes());
        put(bytes, HEAD_BYTES + 8, &sectors.to_ne_bytes());
        put(bytes, HEAD_BYTES + 24, b"verity");
        // Zeros follow, which end it: a table has some 300 bytes.
        put(bytes, HEAD_BYTES + TARGET_BYTES, table.as_bytes());
        self
    }

    #[expect(unsafe_code, reason = "the device mapper is configured by ioctl alone")]
    fn call(self, control: &File) -> rustix::io::Result<Answer> {
        // SAFETY: `control` is the device mapper's, whose requests these opcodes are: they read and write
        // `data_size` bytes from the pointer on, which is the length of the buffer that it points to.
        unsafe { ioctl::ioctl(control, self) }
    }
}

#[expect(unsafe_code, reason = "the device mapper is configured by ioctl alone")]
// SAFETY: `as_ptr` gives the start of a buffer that lives as long as the request, is aligned as `struct
// dm_ioctl` is, and may be written; its first fields say how long it is. The pointer that
// `output_from_ptr` gets is that one, after the kernel wrote to it, and any bytes are a buffer.
unsafe impl Ioctl for Request {
    type Output = Answer;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.buffer).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, buffer: *mut c_void) -> rustix::io::Result<Answer> {
        // SAFETY: see above; the buffer has been written whole before the call.
        let buffer = unsafe { &*buffer.cast::<Buffer>() };
        let device = buffer.0[DEVICE_AT..].first_chunk().copied().unwrap_or_default();
        Ok(Answer { device: u64::from_ne_bytes(device) })
    }
}

struct Answer {
    device: u64,
}

impl Answer {
    /// Of a device number as the kernel writes it: eight bits of minor, twelve of major, the rest of minor.
    fn minor(&self) -> u64 {
        self.device & 0xff | (self.device >> 12) & 0xfff00
    }
}

fn put(bytes: &mut [u8; BUFFER_BYTES], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let request = Request::new(LOAD, "root", READ_ONLY).verity(56, "1 a b");
        let bytes = &request.buffer.0;
        assert_eq!(bytes[..4], [4, 0, 0, 0]);
        assert_eq!(bytes[NAME_AT..NAME_AT + 5], *b"root\0");
        assert_eq!(bytes[HEAD_BYTES + 8..HEAD_BYTES + 16], 56u64.to_ne_bytes());
        assert_eq!(bytes[HEAD_BYTES + 24..HEAD_BYTES + 31], *b"verity\0");
        assert_eq!(bytes[HEAD_BYTES + 40..HEAD_BYTES + 46], *b"1 a b\0");
        let device = |device| Answer { device }.minor();
        assert_eq!((device(0xfe00), device(0xfe01), device(0x0010_fe02)), (0, 1, 0x102));
    }
}
