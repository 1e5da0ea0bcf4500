//! A matrix that several threads write, a rectangle each.

use std::{
    marker::PhantomData,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

use rayon::prelude::*;

/// Tasks for each thread, where there is enough to do.
const TASKS: usize = 3;

/// Rows and columns of a product's task: whole tiles, as many as `most` has room for, and fewer columns where there would
/// be too few tasks.
pub(super) fn task_size(
    [rows, columns]: [usize; 2],
    tile: [usize; 2],
    most: [usize; 2],
    threads: usize,
) -> [usize; 2] {
    let down = rows.div_ceil(most[0]).max(1);
    let height = rows.div_ceil(down).next_multiple_of(tile[0]);
    let (mut across, panels) = (most[1] / tile[1], columns.div_ceil(tile[1]));
    while across > 1 && down * panels.div_ceil(across) < TASKS * threads {
        across /= 2;
    }
    [height, across * tile[1]]
}

/// Where the rows of a product go.
pub(super) struct Rows<'a> {
    /// Rows of `step` elements.
    pub(super) out: &'a mut [f32],
    pub(super) step: usize,
    /// Of a row's elements, the first that is written.
    pub(super) start: usize,
}

impl<'a> Rows<'a> {
    /// So many elements of each.
    pub(super) fn grid(self, columns: usize) -> Grid<'a, f32> {
        Grid::new(self.out, self.step, self.start..self.start + columns)
    }
}

/// A matrix to write: columns of a slice's rows.
pub(super) struct Grid<'a, T> {
    first: *mut T,
    step: usize,
    rows: usize,
    columns: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: as `&mut [T]`; what is shared are rectangles that do not overlap.
unsafe impl<T: Send> Send for Grid<'_, T> {}
// SAFETY: as above: a shared grid reads and writes nothing itself.
unsafe impl<T: Send> Sync for Grid<'_, T> {}

impl<'a, T: Send> Grid<'a, T> {
    /// `columns` of the rows of `step` elements that a slice has.
    ///
    /// # Panics
    /// Where a row ends before its columns do.
    pub(super) fn new(elements: &'a mut [T], step: usize, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= step, "columns past their row");
        let rows = elements.len() / step.max(1);
        let first = elements.as_mut_ptr().wrapping_add(columns.start);
        Self { first, step, rows, columns: columns.len(), borrowed: PhantomData }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Cuts it into rectangles of `size` (rows, columns), the last ones smaller, and gives each to `f`, in
    /// parallel. Each thread makes its own scratch, then takes the next rectangle until there is none:
    /// those of the same columns one after the other.
    pub(super) fn each<S>(
        self,
        size: [usize; 2],
        scratch: impl Fn() -> S + Send + Sync,
        f: impl Fn(&mut S, Rectangle<'_, T>) + Send + Sync,
    ) {
        let across = self.columns.div_ceil(size[1].max(1));
        let down = self.rows.div_ceil(size[0].max(1));
        let part = |i: usize, size: usize, end: usize| i * size..((i + 1) * size).min(end);
        let next = AtomicUsize::new(0);
        let threads = rayon::current_num_threads().min(down * across);
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            let mut scratch = scratch();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= down * across {
                    break;
                }
                let rows = part(i % down, size[0], self.rows);
                let columns = part(i / down, size[1], self.columns);
                f(&mut scratch, Rectangle { grid: &self, rows, columns, owned: PhantomData });
            }
        });
    }
}

/// Some rows and columns of a grid, which nobody else has.
pub(super) struct Rectangle<'a, T> {
    grid: &'a Grid<'a, T>,
    rows: Range<usize>,
    columns: Range<usize>,
    owned: PhantomData<&'a mut T>,
}

impl<T: Send> Rectangle<'_, T> {
    /// Of the grid.
    pub(super) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Of the grid.
    pub(super) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// A part of it, by the grid's rows and columns; those past its end are left out.
    #[inline]
    pub(super) fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> Rectangle<'_, T> {
        let within = |part: Range<usize>, whole: &Range<usize>| {
            part.start.max(whole.start)..part.end.min(whole.end)
        };
        Rectangle {
            grid: self.grid,
            rows: within(rows, &self.rows),
            columns: within(columns, &self.columns),
            owned: PhantomData,
        }
    }

    /// The row of an index from 0 on.
    ///
    /// # Panics
    /// Where it has no such row.
    #[inline(always)]
    pub(super) fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows.len(), "a row past the end");
        let at = (self.rows.start + i) * self.grid.step + self.columns.start;
        // SAFETY: the row and its columns lie in the grid, so in the slice that it borrows mutably. The
        // rectangles of a grid do not overlap, each is given to one call, and a part of one borrows it
        // mutably: nobody else reads or writes these elements.
        unsafe {
            std::slice::from_raw_parts_mut(self.grid.first.wrapping_add(at), self.columns.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_cover_their_columns_once() {
        let mut elements = vec![0u32; 7 * 10];
        Grid::new(&mut elements, 10, 2..9).each(
            [3, 4],
            || (),
            |(), mut rectangle| {
                let (rows, columns) = (rectangle.rows(), rectangle.columns());
                let mut part = rectangle.part(rows.start..rows.start + 99, columns.clone());
                for i in 0..rows.len() {
                    part.row(i).iter_mut().for_each(|x| *x += 1);
                }
            },
        );
        for (i, x) in elements.iter().enumerate() {
            assert_eq!(*x, u32::from((2..9).contains(&(i % 10))), "{i}");
        }
    }
}
