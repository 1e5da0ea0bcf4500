//! Where packed weights lie: a mapping of their own that asks for huge pages, whatever the program's
//! allocator does. A product that reads weights faster than pages of 4 KB can be looked up waits for them.

use std::{ffi::c_void, ops::Deref, ptr::NonNull, slice};

use super::line::Line;

/// Lines that were filled once; freed with the last who reads them.
pub(super) enum Lines {
    /// What would fill no huge page.
    Small(Vec<Line>),
    Mapped(Mapping),
}

/// Of a huge page.
const HUGE: usize = 2 << 20;

impl Lines {
    /// So many, zero until `fill` fills them.
    ///
    /// # Errors
    /// Where there is not enough memory.
    pub(super) fn new(count: usize, fill: impl FnOnce(&mut [Line])) -> std::io::Result<Self> {
        if count * size_of::<Line>() < HUGE {
            let mut lines = vec![Line::ZERO; count];
            fill(&mut lines);
            return Ok(Self::Small(lines));
        }
        let mut mapping = Mapping::new(count)?;
        fill(mapping.lines_mut());
        Ok(Self::Mapped(mapping))
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match self {
            Self::Small(lines) => lines,
            Self::Mapped(mapping) => mapping.lines(),
        }
    }
}

/// Anonymous pages of this process.
pub(super) struct Mapping {
    /// What was mapped, with what lies before the first huge page.
    whole: (NonNull<c_void>, usize),
    /// A multiple of a huge page.
    first: NonNull<Line>,
    count: usize,
}

// SAFETY: it owns its pages; only `&mut self` writes to them.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(count: usize) -> std::io::Result<Self> {
        let bytes = count * size_of::<Line>();
        let length = bytes + HUGE;
        // SAFETY: a new anonymous mapping replaces none.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let whole = match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => (start, length),
            _ => return Err(std::io::Error::last_os_error()),
        };
        let offset = start.align_offset(HUGE);
        // SAFETY: less than HUGE, by which the mapping is longer than the lines.
        let first = unsafe { whole.0.byte_add(offset) }.cast::<Line>();
        #[cfg(target_os = "linux")]
        // SAFETY: pages of this mapping. It is advice: where there are no huge pages, small ones do.
        unsafe {
            libc::madvise(first.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE)
        };
        Ok(Self { whole, first, count })
    }

    fn lines(&self) -> &[Line] {
        // SAFETY: so many lines from there on are mapped, aligned, zero at first, and owned.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }

    fn lines_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped as it is, and nobody has a reference into it any more. An error would leak it.
        unsafe { libc::munmap(self.whole.0.as_ptr(), self.whole.1) };
    }
}
