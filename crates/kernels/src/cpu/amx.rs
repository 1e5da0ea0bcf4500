//! Tiles in hardware: Intel's AMX.
//!
//! C (32, 32) ← C + A · B over some steps of K. A tile is 16 lines of 64 bytes. A step of K is a line of each row
//! of A, 32 values of bf16 or 64 bytes: two tiles of A, one below the other, and two of B, side by side. C's
//! values have 32 bits, in rows of two lines.
//!
//! Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 (LDTILECFG, TILELOADD,
//! TDPBF16PS, TDPBSSD, TILESTORED, CPUID leaf 7) and volume 1, chapter 18; Linux,
//! Documentation/arch/x86/xstate.rst (arch_prctl).
//!
//! TDPBF16PS multiplies 16·16·32 pairs in 16 cycles. Denormals count as zero, and NaNs stay NaN. TDPBSSD
//! multiplies 16·16·64 bytes with a sign in as many, exactly.

use std::{
    arch::{
        asm,
        x86_64::{__cpuid, __cpuid_count},
    },
    cell::Cell,
    marker::PhantomData,
};

use super::{line::Line, registers::Onto};

#[cfg(test)]
pub(super) mod software;

/// Proof that this process may use AMX: only [`Amx::enable`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amx(());

/// Why a machine has no tiles for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAmx {
    #[error("the processor has no AMX with bf16 and int8, or it is hidden from this machine")]
    Processor,
    #[error("the kernel does not save AMX's registers")]
    Kernel,
    #[error("the kernel does not permit AMX to this process (error {0})")]
    Refused(i32),
}

impl Amx {
    /// Asks the processor, then the kernel, which permits it to the whole process.
    ///
    /// # Errors
    /// Where one of them has no AMX.
    pub(super) fn enable() -> Result<Self, NoAmx> {
        /// Of CPUID leaf 7, EDX: AMX-BF16 (22), AMX-TILE (24) and AMX-INT8 (25).
        const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        /// Of CPUID leaf 1, ECX: XGETBV may be used.
        const OSXSAVE: u32 = 1 << 27;
        /// Of XCR0: the tiles' configuration (17) and their data (18).
        const STATE: u32 = 1 << 17 | 1 << 18;
        if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & FEATURES != FEATURES {
            return Err(NoAmx::Processor);
        }
        if __cpuid(1).ecx & OSXSAVE == 0 || extended_state() & STATE != STATE {
            return Err(NoAmx::Kernel);
        }
        request_permission()?;
        Ok(Self(()))
    }
}

/// The low half of XCR0: which registers the kernel saves.
fn extended_state() -> u32 {
    let low: u32;
    // SAFETY: OSXSAVE is set, so XGETBV with ECX = 0 reads XCR0 into EDX:EAX and touches nothing else.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack));
    }
    low
}

fn request_permission() -> Result<(), NoAmx> {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this arch_prctl takes two numbers and reads no memory.
    let answer =
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    if answer == 0 {
        Ok(())
    } else {
        Err(NoAmx::Refused(std::io::Error::last_os_error().raw_os_error().unwrap_or_default()))
    }
}

thread_local! {
    /// How many [`AmxTiles`] this thread has.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Eight tiles of 16 × 64 bytes on this thread, for as long as one of these lives; later a switch of
/// threads saves nothing of them.
pub(super) struct AmxTiles(PhantomData<*const ()>);

impl Amx {
    /// Prepares this thread.
    pub(super) fn tiles(self) -> AmxTiles {
        HELD.with(|held| {
            if held.get() == 0 {
                configure();
            }
            held.set(held.get() + 1);
        });
        AmxTiles(PhantomData)
    }
}

impl Drop for AmxTiles {
    fn drop(&mut self) {
        HELD.with(|held| {
            held.set(held.get() - 1);
            if held.get() == 0 {
                // SAFETY: one was made, so AMX is there. Nobody on this thread reads tiles any more.
                unsafe { asm!("tilerelease", options(nomem, nostack)) }
            }
        });
    }
}

fn configure() {
    /// LDTILECFG's 64 bytes: palette 1, then 16 lengths of rows in bytes, then 16 numbers of rows.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    let mut all = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    all.row_bytes[..8].fill(64);
    all.rows[..8].fill(16);
    // SAFETY: only a proof that AMX is there leads here. The instruction reads these 64 bytes; they name
    // palette 1 and its eight tiles of full size, which it always has.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const all, options(readonly, nostack)) }
}

/// What one call multiplies, in as many steps as there are.
pub(super) struct Operands {
    /// The first line of the first row.
    pub(super) a: *const Line,
    /// From one of 16 rows to the next, in lines.
    pub(super) row: usize,
    /// From the first of 16 rows to the first of the next 16, in lines.
    pub(super) tile: usize,
    /// From a step of K to the next, in lines.
    pub(super) step: usize,
    /// 32 lines for each step.
    pub(super) b: *const Line,
    /// At least one.
    pub(super) steps: usize,
    /// 32 rows of 128 bytes.
    pub(super) c: *mut [[u32; 32]; 32],
    pub(super) onto: Onto,
    /// Will be read soon: four lines for each step.
    pub(super) next: *const Line,
}

/// Lines of 64 bytes from an address on, into the nearest cache.
macro_rules! prefetch {
    ($at:literal: $($offset:literal)*) => {
        concat!($("prefetcht0 [", $at, "+", $offset, "]\n"),*)
    };
}

/// The loop, with an instruction that multiplies, and how the two tiles of B lie: from line to line, and from the first
/// of one to the first of the other, in bytes.
macro_rules! product {
    ($multiply:literal, $of:ident, $b_row:literal, $b_second:literal, [$($first:expr)?], [$($second:expr)?]) => {
        asm!(
            "test {onto:e}, {onto:e}",
            "jnz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{c} + {c_row}]",
            "tileloadd tmm1, [{c} + {c_row} + 64]",
            "tileloadd tmm2, [{c} + {c_row} + 2048]",
            "tileloadd tmm3, [{c} + {c_row} + 2112]",
            "2:",
            "tileloadd tmm4, [{a} + {a_row}]",
            "tileloadd tmm6, [{b} + {b_row}]",
            $($first,)?
            concat!($multiply, " tmm0, tmm4, tmm6"),
            concat!("tileloadd tmm7, [{b} + {b_row} + ", $b_second, "]"),
            concat!($multiply, " tmm1, tmm4, tmm7"),
            "tileloadd tmm5, [{second} + {a_row}]",
            $($second,)?
            concat!($multiply, " tmm2, tmm5, tmm6"),
            prefetch!("{next}": 0 64 128 192),
            concat!($multiply, " tmm3, tmm5, tmm7"),
            "add {a}, {a_step}",
            "add {second}, {a_step}",
            "add {b}, 2048",
            "add {next}, 256",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {c_row}], tmm0",
            "tilestored [{c} + {c_row} + 64], tmm1",
            "tilestored [{c} + {c_row} + 2048], tmm2",
            "tilestored [{c} + {c_row} + 2112], tmm3",
            a = inout(reg) $of.a => _,
            second = inout(reg) $of.a.wrapping_add($of.tile) => _,
            a_row = in(reg) 64 * $of.row,
            a_step = in(reg) 64 * $of.step,
            b = inout(reg) $of.b => _,
            b_row = in(reg) $b_row as usize,
            next = inout(reg) $of.next => _,
            steps = inout(reg) $of.steps => _,
            c = in(reg) $of.c,
            c_row = in(reg) 128usize,
            onto = in(reg) u32::from($of.onto == Onto::Itself),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// The same; rows of A that follow each other come from the second cache: two steps ahead, a line for each one read.
macro_rules! product_of_packed {
    ($multiply:literal, $of:ident, $b_row:literal, $b_second:literal) => {
        product!(
            $multiply,
            $of,
            $b_row,
            $b_second,
            [
                prefetch!("{a}": 4096 4160 4224 4288 4352 4416 4480 4544 4608 4672 4736 4800 4864 4928 4992 5056)
            ],
            [
                prefetch!("{a}": 5120 5184 5248 5312 5376 5440 5504 5568 5632 5696 5760 5824 5888 5952 6016 6080)
            ]
        )
    };
}

impl AmxTiles {
    /// Pairs of bf16, and sums of f32; the tiles of B lie one after the other.
    ///
    /// # Safety
    /// All that [`Operands`] names is there: so many steps of A and B to read, and C, of any values, to write.
    #[inline(always)]
    pub(super) unsafe fn multiply_bf16(&self, of: &Operands) {
        debug_assert!(of.steps > 0);
        // SAFETY: this thread's tiles are configured while `self` lives, and what is read and written is there.
        // Prefetches never fault, wherever they point. Tiles are read by nobody behind the block.
        unsafe {
            if (of.row, of.tile, of.step) == (1, 16, 32) {
                product_of_packed!("tdpbf16ps", of, 64, 1024);
            } else {
                product!("tdpbf16ps", of, 64, 1024, [], []);
            }
        }
    }

    /// Fours of bytes with a sign, and sums of i32, which wrap; the lines of the two tiles of B lie side by side.
    ///
    /// # Safety
    /// As of [`Self::multiply_bf16`].
    #[inline(always)]
    pub(super) unsafe fn multiply_int8(&self, of: &Operands) {
        debug_assert!(of.steps > 0);
        // SAFETY: as above.
        unsafe { product_of_packed!("tdpbssd", of, 128, 64) }
    }
}
