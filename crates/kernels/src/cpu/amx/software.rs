//! AMX for machines that have none, so that what is written for it runs in every test: its instructions are
//! illegal there, and whoever executes one is sent a signal, whose handler does what the instruction would have done.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, section 2.1.5 and the instructions'
//! pages. Of their forms, those that an assembler makes of this crate's code.

use std::{
    cell::{Cell, UnsafeCell},
    ffi::c_int,
    sync::OnceLock,
};

use half::bf16;
use libc::{REG_RIP, siginfo_t, ucontext_t};

use super::Amx;

/// The machine's AMX, or this one.
pub(in crate::cpu) fn amx() -> Amx {
    static AMX: OnceLock<Amx> = OnceLock::new();
    *AMX.get_or_init(|| {
        Amx::enable().unwrap_or_else(|_| {
            install();
            Amx(())
        })
    })
}

/// From now on illegal instructions are looked at.
fn install() {
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut ucontext_t) = on_illegal_instruction;
    // SAFETY: all zeros are a valid `sigaction`; the handler has the arguments that SA_SIGINFO passes, and uses nothing
    // but its thread's own memory.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()), 0);
    }
}

extern "C" fn on_illegal_instruction(_: c_int, _: *mut siginfo_t, context: *mut ucontext_t) {
    // SAFETY: the kernel passes the interrupted thread's registers, which are written back.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    // SAFETY: the instruction there was executed, and those that are decoded are as long as is read of them.
    let decoded = unsafe { Instruction::decode(registers) };
    // SAFETY: only code of this crate uses AMX, and sees to it that its operands are there.
    match decoded.filter(|(instruction, _)| unsafe { instruction.execute() }) {
        Some((_, length)) => registers[REG_RIP as usize] += length as i64,
        // Not ours: the next attempt ends the process, as it would have ended without this.
        None => {
            // SAFETY: the default handler replaces this one.
            unsafe { libc::signal(libc::SIGILL, libc::SIG_DFL) };
        }
    }
}

const ROWS: usize = 16;
/// Sixteen rows of 64 bytes.
type Tile = [[u8; 64]; ROWS];

thread_local! {
    static CONFIGURED: Cell<bool> = const { Cell::new(false) };
    static TILES: UnsafeCell<[Tile; 8]> = const { UnsafeCell::new([[[0; 64]; ROWS]; 8]) };
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Instruction {
    Configure(usize),
    Release,
    Zero(usize),
    /// Rows so many bytes apart.
    Load(usize, Rows),
    Store(Rows, usize),
    /// Destination, left, right.
    DotBf16([usize; 3]),
    DotInt8([usize; 3]),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rows {
    address: usize,
    stride: usize,
}

impl Instruction {
    /// The instruction that was interrupted, and its length.
    ///
    /// # Safety
    /// One lies at REG_RIP.
    unsafe fn decode(registers: &[i64; 23]) -> Option<(Self, usize)> {
        let code = registers[REG_RIP as usize] as *const u8;
        // SAFETY: the caller's; nothing is read behind what the bytes before announce.
        let byte = |at: usize| unsafe { *code.add(at) };
        // VEX of three bytes, map 0F38, W0, 128 bits; registers' high bits are inverted.
        let is_vex = byte(0) == 0xc4 && byte(1) & 0x1f == 2 && byte(2) & 0x84 == 0;
        if !is_vex {
            return None;
        }
        let (prefix, third) = (byte(2) & 3, usize::from(!byte(2) >> 3 & 15));
        let (opcode, modrm) = (byte(3), byte(4));
        let (reg, rm) = (usize::from(modrm >> 3 & 7), usize::from(modrm & 7));
        if modrm >> 6 == 3 {
            let instruction = match (prefix, opcode) {
                (0, 0x49) if modrm == 0xc0 => Self::Release,
                (3, 0x49) if rm == 0 => Self::Zero(reg),
                (2, 0x5c) => Self::DotBf16([reg, rm, third]),
                (3, 0x5e) => Self::DotInt8([reg, rm, third]),
                _ => return None,
            };
            return Some((instruction, 5));
        }
        let high = |bit: u8, low: usize| low | usize::from(!byte(1) >> bit & 1) << 3;
        let value = |number: usize| registers[NUMBERED[number] as usize] as usize;
        let (base, index, mut length) = if rm == 4 {
            let sib = byte(5);
            let index = high(6, usize::from(sib >> 3 & 7));
            // Without an index where that would be the stack's pointer.
            let index = if index == 4 { 0 } else { value(index) << (sib >> 6) };
            (usize::from(sib & 7), index, 6)
        } else {
            (rm, 0, 5)
        };
        let displacement = match modrm >> 6 {
            0 if base != 5 => 0,
            1 => isize::from(byte(5 + usize::from(rm == 4)).cast_signed()),
            2 => i32::from_le_bytes([0, 1, 2, 3].map(|i| byte(length + i))) as isize,
            // No base, or the instruction's own address: never made here.
            _ => return None,
        };
        length += [0, 1, 4][usize::from(modrm >> 6)];
        let address = value(high(5, base)).wrapping_add_signed(displacement);
        let rows = Rows { address, stride: index };
        let instruction = match (prefix, opcode) {
            (0, 0x49) if reg == 0 => Self::Configure(address.wrapping_add(index)),
            (3, 0x4b) if rm == 4 => Self::Load(reg, rows),
            (2, 0x4b) if rm == 4 => Self::Store(rows, reg),
            _ => return None,
        };
        Some((instruction, length))
    }

    /// Does it, or tells that the machine would not have.
    ///
    /// # Safety
    /// What it reads and writes is there.
    unsafe fn execute(self) -> bool {
        if let Self::Configure(address) = self {
            // SAFETY: 64 bytes, by the caller.
            let all = unsafe { *(address as *const [u8; 64]) };
            // Palette 1, from the first row on; eight tiles of full size: others are never asked for here.
            let (lengths, rows) = (&all[16..32], &all[48..56]);
            let is_full = lengths.as_chunks::<2>().0.iter().all(|length| *length == [64, 0])
                && rows.iter().all(|rows| usize::from(*rows) == ROWS);
            let rest = [&all[2..16], &all[32..48], &all[56..]].concat();
            CONFIGURED.set(all[..2] == [1, 0] && is_full && rest.iter().all(|byte| *byte == 0));
            TILES.with(|tiles| {
                // SAFETY: nobody else has a reference into this thread's tiles.
                unsafe { *tiles.get() = [[[0; 64]; ROWS]; 8] }
            });
            return CONFIGURED.get();
        }
        if self == Self::Release {
            CONFIGURED.set(false);
            return true;
        }
        if !CONFIGURED.get() {
            return false;
        }
        TILES.with(|tiles| {
            // SAFETY: as above, until this instruction has been done.
            let tiles = unsafe { &mut *tiles.get() };
            match self {
                Self::Configure(_) | Self::Release => {}
                Self::Zero(tile) => tiles[tile] = [[0; 64]; ROWS],
                Self::Load(tile, rows) => {
                    for (i, row) in tiles[tile].iter_mut().enumerate() {
                        // SAFETY: the caller's.
                        *row = unsafe { *rows.row(i) };
                    }
                }
                Self::Store(rows, tile) => {
                    for (i, row) in tiles[tile].iter().enumerate() {
                        // SAFETY: the caller's.
                        unsafe { *rows.row(i) = *row }
                    }
                }
                Self::DotBf16([to, left, right]) => {
                    tiles[to] = dot(&tiles[to], &tiles[left], &tiles[right], dot_bf16);
                }
                Self::DotInt8([to, left, right]) => {
                    tiles[to] = dot(&tiles[to], &tiles[left], &tiles[right], dot_int8);
                }
            }
        });
        true
    }
}

/// Where the general registers lie that instructions number.
const NUMBERED: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

impl Rows {
    fn row(self, i: usize) -> *mut [u8; 64] {
        self.address.wrapping_add(i.wrapping_mul(self.stride)) as *mut [u8; 64]
    }
}

/// Every element of a tile of sums with what it is made of: words of a row of the left, of a column of the right.
fn dot(
    to: &Tile,
    left: &Tile,
    right: &Tile,
    sum: impl Fn(u32, &[[u8; 4]; ROWS], [[u8; 4]; ROWS]) -> u32,
) -> Tile {
    let words = |row: &[u8; 64]| -> [[u8; 4]; ROWS] {
        std::array::from_fn(|i| std::array::from_fn(|byte| row[4 * i + byte]))
    };
    let (left, right) = (left.map(|row| words(&row)), right.map(|row| words(&row)));
    let mut sums = *to;
    for (row, left) in sums.iter_mut().zip(&left) {
        for (j, element) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let column = std::array::from_fn(|k| right[k][j]);
            *element = sum(u32::from_le_bytes(*element), left, column).to_le_bytes();
        }
    }
    sums
}

/// TDPBF16PS: even and odd products are added up apart; denormals count as zero.
fn dot_bf16(element: u32, left: &[[u8; 4]; ROWS], right: [[u8; 4]; ROWS]) -> u32 {
    let wide = |[low, high]: [u8; 2]| flushed(bf16::from_le_bytes([low, high]).to_f32());
    let mut sums = [0f32; 2];
    for (left, right) in left.iter().zip(&right) {
        for (odd, sum) in sums.iter_mut().enumerate() {
            let value = |word: &[u8; 4]| wide([word[2 * odd], word[2 * odd + 1]]);
            // A product of two such values is exact, but where it is denormal.
            *sum = flushed(value(left) * value(right) + *sum);
        }
    }
    flushed(flushed(f32::from_bits(element)) + flushed(sums[0] + sums[1])).to_bits()
}

fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0 } else { x }
}

/// TDPBSSD: products of bytes with a sign.
fn dot_int8(element: u32, left: &[[u8; 4]; ROWS], right: [[u8; 4]; ROWS]) -> u32 {
    let bytes = left.as_flattened().iter().zip(right.as_flattened());
    let products = bytes.map(|(x, w)| i32::from(x.cast_signed()) * i32::from(w.cast_signed()));
    element.cast_signed().wrapping_add(products.sum::<i32>()).cast_unsigned()
}
