//! Runs work with secrets and wipes the stack it ran on.
//!
//! Types that wipe themselves cover what they own, and a wiping allocator covers the heap. Neither
//! covers what a compiler leaves on a thread's stack: a key that was moved, a cipher's round keys,
//! the block that a hash was fed. Such bytes stay until a later call happens to write over them,
//! which on a thread that waits for work may be never.
//!
//! [`stack`] and [`deep_stack`] run a closure below a frame of their own and then write zeros over
//! the stretch of the stack that the closure had. That works without `unsafe` because every call
//! from one frame begins at the same place: an array of zeros, which the compiler must write since
//! [`black_box`] may read it, lies where the closure's frames lay.
//!
//! What is not covered: the closure's result, which moves to the caller (return boxes, not arrays,
//! of secrets); what the closure captured by value; frames deeper than the stretch; work that the
//! closure hands to other threads; and registers, of which the kernel keeps copies.

use std::hint::black_box;

/// Below the first frame of the work, so that nothing of it lies above the zeros, whatever either
/// side saves at the head of its frame.
const MARGIN_BYTES: usize = 512;
const SHALLOW_BYTES: usize = 64 * 1024;
const DEEP_BYTES: usize = 384 * 1024;

/// Runs `work` and wipes the 64 KiB of stack below the caller, also where `work` panics: enough for
/// key agreement, signatures, ciphers, parsers and image encoders. It takes a microsecond or two.
pub fn stack<T>(work: impl FnOnce() -> T) -> T {
    run_then_wipe::<SHALLOW_BYTES, T>(work)
}

/// The same for 384 KiB: tokenizers, and a model on its own thread. It takes about ten
/// microseconds. The thread needs that much stack left; threads of Rust's standard library have 2 MiB.
pub fn deep_stack<T>(work: impl FnOnce() -> T) -> T {
    run_then_wipe::<DEEP_BYTES, T>(work)
}

#[inline(never)]
fn run_then_wipe<const BYTES: usize, T>(work: impl FnOnce() -> T) -> T {
    let (mut work, mut done) = (Some(work), None);
    let _wipes = WipesOnDrop::<BYTES>;
    below_margin(&mut || done = work.take().map(|work| work()));
    done.expect("`below_margin` calls its argument once")
}

/// Wipes when the frame that holds it ends, by a panic too.
struct WipesOnDrop<const BYTES: usize>;

impl<const BYTES: usize> Drop for WipesOnDrop<BYTES> {
    fn drop(&mut self) {
        write_zeros::<BYTES>();
    }
}

#[inline(never)]
fn below_margin(work: &mut dyn FnMut()) {
    let mut margin = [0_u8; MARGIN_BYTES];
    black_box(&mut margin);
    // Behind `black_box` it is an unknown function, which cannot be inlined into this frame.
    black_box(work)();
    black_box(&mut margin);
}

#[inline(never)]
fn write_zeros<const BYTES: usize>() {
    let mut zeros = [0_u8; BYTES];
    black_box(&mut zeros);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        fs::File,
        os::unix::fs::FileExt,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use super::*;

    /// Looked for in this process's own memory, so it is put together where it is needed.
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

    fn pattern() -> [u8; 64] {
        let mut bytes = [0; 64];
        for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&black_box(SEED).wrapping_mul(2 * at as u64 + 3).to_le_bytes());
        }
        bytes
    }

    /// Leaves the pattern in each of `frames` frames.
    #[inline(never)]
    fn leave(frames: usize) -> usize {
        let mut local = [pattern(); 4];
        black_box(&mut local);
        let below = if frames > 1 { leave(frames - 1) } else { 0 };
        black_box(&local);
        below + 1
    }

    /// How often the pattern lies in the last `bytes` of the stack below this frame.
    #[inline(never)]
    fn left_below(bytes: usize) -> usize {
        let here = 0_u8;
        let end = std::ptr::from_ref(black_box(&here)).addr();
        let mut below = vec![0; bytes];
        let memory = File::open("/proc/self/mem").expect("a process may read its own memory");
        memory.read_exact_at(&mut below, (end - bytes) as u64).expect("the stack is mapped");
        below.windows(8).filter(|window| *window == &pattern()[8..16]).count()
    }

    #[test]
    fn nothing_is_left_in_reach() {
        // 100 frames of at least 256 bytes.
        assert_eq!(leave(100), 100);
        assert!(left_below(SHALLOW_BYTES) >= 50, "the test finds what is left");
        assert_eq!(stack(|| leave(100)), 100);
        assert_eq!(left_below(SHALLOW_BYTES), 0);

        assert_eq!(leave(600), 600);
        assert!(left_below(DEEP_BYTES) >= 300);
        assert_eq!(deep_stack(|| leave(600)), 600);
        assert_eq!(left_below(DEEP_BYTES), 0);
    }

    #[test]
    fn a_panic_leaves_nothing_either() {
        let panics = || -> usize {
            leave(50);
            panic!("on purpose")
        };
        let unwound = catch_unwind(AssertUnwindSafe(|| stack(panics)));
        assert!(unwound.is_err());
        assert_eq!(left_below(SHALLOW_BYTES / 2), 0);
    }

    #[test]
    fn what_work_returns_comes_back() {
        let text = String::from("kept");
        assert_eq!(stack(move || text), "kept");
        assert_eq!(deep_stack(|| stack(|| Err::<(), _>(7))), Err(7));
    }
}
