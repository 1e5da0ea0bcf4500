//! Tiles in hardware: Intel's AMX.
//!
//! Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 (LDTILECFG, TILELOADD,
//! TDPBF16PS, TILESTORED, CPUID leaf 7) and volume 1, chapter 18; Linux,
//! Documentation/arch/x86/xstate.rst (arch_prctl).
//!
//! TDPBF16PS multiplies 16·16·32 pairs in 16 cycles. Denormals count as zero, and NaNs stay NaN.

use std::{
    arch::{
        asm,
        x86_64::{__cpuid, __cpuid_count},
    },
    cell::Cell,
    marker::PhantomData,
};

use super::{
    line::Line,
    tiles::{Block, Left, Machine, Onto, STEP, Strides, Tiles},
};

/// Proof that this process may use AMX: only [`Amx::enable`] makes one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amx(());

/// Why a machine has no tiles for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAmx {
    #[error("the processor has no AMX with bf16, or it is hidden from this machine")]
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
        /// Of CPUID leaf 7, EDX: AMX-BF16 (22) and AMX-TILE (24).
        const FEATURES: u32 = 1 << 22 | 1 << 24;
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

impl Machine for Amx {
    type Tiles = AmxTiles;

    fn tiles(self) -> AmxTiles {
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

/// Lines of 64 bytes from an address on, into the nearest cache.
macro_rules! prefetch {
    ($at:literal: $($offset:literal)*) => {
        concat!($("prefetcht0 [", $at, "+", $offset, "]\n"),*)
    };
}

/// One call's loop. `$ahead` fetches what the next ones read.
macro_rules! product {
    ($a:ident, $second:ident, $strides:ident, $b:ident, $steps:ident, $c:ident, $onto:ident, $next:ident,
     $ahead:literal, [$($first:expr)?], [$($second_half:expr)?]) => {
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
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {b_row} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{second} + {a_row}]",
            $($second_half,)?
            "tdpbf16ps tmm2, tmm5, tmm6",
            $ahead,
            "tdpbf16ps tmm3, tmm5, tmm7",
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
            a = inout(reg) $a => _,
            second = inout(reg) $second => _,
            a_row = in(reg) 64 * $strides.row,
            a_step = in(reg) 64 * $strides.step,
            b = inout(reg) $b => _,
            b_row = in(reg) 64usize,
            next = inout(reg) $next => _,
            steps = inout(reg) $steps => _,
            c = in(reg) $c,
            c_row = in(reg) 128usize,
            onto = in(reg) u32::from($onto == Onto::Itself),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

impl Tiles for AmxTiles {
    #[inline]
    fn product(&self, a: Left<'_>, b: &[Line], c: &mut Block, onto: Onto, next: &[Line]) {
        let steps = b.len() / STEP;
        if steps == 0 {
            if onto == Onto::Zero {
                *c = Block::ZERO;
            }
            return;
        }
        let strides = a.strides();
        let a_first = a.checked(steps).as_ptr();
        let second = a_first.wrapping_add(strides.tile);
        let (b, c, next) = (b.as_ptr(), &raw mut *c, next.as_ptr());
        // SAFETY: this thread's tiles are configured while `self` lives. The loop runs `steps` > 0 times
        // and reads 2 KB of `b` each time, which are there, and lines of `a` up to the last one, which
        // `checked` saw. `c` is 4 KB of rows of 128 bytes, borrowed mutably. Prefetches never fault,
        // wherever they point. Tiles are read by nobody behind the block; all values are valid f32.
        unsafe {
            if strides == Strides::PACKED {
                // Rows of A come from the second cache: two steps ahead, a line for each one read.
                product!(
                    a_first,
                    second,
                    strides,
                    b,
                    steps,
                    c,
                    onto,
                    next,
                    "prefetcht0 [{next}]\nprefetcht0 [{next}+64]\nprefetcht0 [{next}+128]\nprefetcht0 [{next}+192]",
                    [
                        prefetch!("{a}": 4096 4160 4224 4288 4352 4416 4480 4544 4608 4672 4736 4800 4864 4928 4992 5056)
                    ],
                    [
                        prefetch!("{a}": 5120 5184 5248 5312 5376 5440 5504 5568 5632 5696 5760 5824 5888 5952 6016 6080)
                    ]
                );
            } else {
                product!(
                    a_first,
                    second,
                    strides,
                    b,
                    steps,
                    c,
                    onto,
                    next,
                    "prefetcht0 [{next}]\nprefetcht0 [{next}+64]\nprefetcht0 [{next}+128]\nprefetcht0 [{next}+192]",
                    [],
                    []
                );
            }
        }
    }
}
