//! Attention in blocks of queries and keys, both products in tiles, softmax in f32 between them.
//!
//! A task has 128 queries of a head and goes over its keys 256 at a time, 32 queries after 32: their scores
//! (32 KB), weights (16 KB) and sums (16 KB) stay in the second cache. Sums are relative to the largest
//! score seen until then, as Milakov and Gimelshein have it (arXiv 1805.02867), to base 2.

use candle_core::{Result, Tensor, bail};
use half::bf16;
use rayon::prelude::*;

use super::{
    super::{
        convert::{narrow, narrow_side, zeros},
        grid::{Grid, Rectangle},
        mask::HeadMask,
        matrix::Elements,
        simd::{exp2, vectorised},
    },
    level::on_machine,
    line::Line,
    linear::activated,
    packed::{pack_columns, pack_rows, pack_step},
    tiles::{Block, Left, Machine, Onto, SIDE, STEP, Strides, Tiles},
};
use crate::operand::{Activation, Heads, Linear, Mask, Scores};

/// Queries of a task.
const QUERIES: usize = 4 * SIDE;
/// Panels of 32 keys that are met at a time.
const PANELS: usize = 8;

pub(in crate::cpu) fn attention(heads: &Heads, scores: Scores<'_>) -> Result<Tensor> {
    let (rows, count, width) = heads.q.dims3()?;
    let mut out = zeros(rows * count * width);
    attend(heads, scores, &mut out, count * width)?;
    Tensor::from_vec(out, (rows, count * width), heads.q.device())
}

pub(super) fn attention_beside_mlp(heads: &Heads, x: &Tensor, mlp: &Linear) -> Result<Tensor> {
    let (rows, count, width) = heads.q.dims3()?;
    if x.dim(0)? != rows {
        bail!("{rows} tokens and {} rows beside them", x.dim(0)?)
    }
    let attended = count * width;
    let row = attended + mlp.outputs();
    let mut out = zeros(rows * row);
    activated(x, mlp, Grid::new(&mut out, row, attended..row), Activation::GeluTanh)?;
    attend(heads, Scores::scaled(width), &mut out, row)?;
    Tensor::from_vec(out, (rows, row), x.device())
}

/// Writes softmax(q·kᵀ · scale + mask) · v into the first h·d elements of each of `out`'s rows.
fn attend(heads: &Heads, scores: Scores<'_>, out: &mut [bf16], row: usize) -> Result<()> {
    let [length, count, width] = heads.shape()?;
    let elements = [&heads.q, &heads.k, &heads.v].map(Elements::of);
    let [q, k, v] = [0, 1, 2].map(|i| Strided::of(&elements[i]));
    let [q, k, v] = [q?, k?, v?];
    let bias = match scores.mask {
        Mask::Bias(bias) => Some(Elements::of(bias)),
        Mask::None | Mask::Causal => None,
    };
    let bias = bias.as_ref().map(|bias| bias.exactly(count * length * length)).transpose()?;
    for (image, out) in out.chunks_mut((length * row).max(1)).enumerate() {
        let [q, k, v] = [q, k, v].map(|all| all.rows_from(image * length));
        let packed = Packed::of(k, v, [length, count, width]);
        let head = |head: usize| Head {
            q: q.head(head),
            packed: &packed,
            head,
            scale: scores.scale * std::f32::consts::LOG2_E,
            mask: HeadMask::of(scores.mask, bias, [head, length]),
        };
        let out = Grid::new(out, row, 0..count * width);
        on_machine!(machine => {
            let scratch = || (machine.tiles(), Scratch::default());
            out.each([QUERIES, width], scratch, |(tiles, scratch), out| {
                let head = head(out.columns().start / width);
                scratch.attend(tiles, &head, out);
            });
        });
    }
    Ok(())
}

/// Heads (l, h, d), elements of a head adjacent.
#[derive(Clone, Copy)]
struct Strided<'a> {
    elements: &'a [bf16],
    row: usize,
    head: usize,
    width: usize,
}

impl<'a> Strided<'a> {
    fn of(elements: &'a Elements<'a>) -> Result<Self> {
        let [[_, _, width], [row, head, 1]] = elements.dims_and_strides()? else {
            bail!("expected heads of adjacent elements")
        };
        Ok(Self { elements: elements.onwards_of()?, row, head, width })
    }

    fn rows_from(self, first: usize) -> Self {
        Self { elements: self.elements.get(first * self.row..).unwrap_or_default(), ..self }
    }

    fn head(self, head: usize) -> Self {
        Self { elements: self.elements.get(head * self.head..).unwrap_or_default(), ..self }
    }

    /// Of a row, the values of a step of the width.
    fn values(&self, row: usize, step: usize) -> &'a [bf16] {
        let from = row * self.row;
        &self.elements[from + step * SIDE..from + self.width.min((step + 1) * SIDE)]
    }
}

/// Keys and values of an image's heads, as products read them.
struct Packed {
    /// (h, l/32, d/32): panels of 32 keys.
    keys: Vec<[Line; STEP]>,
    /// (h, d/32, l/32): panels of 32 elements of a head.
    values: Vec<[Line; STEP]>,
    length: usize,
    /// 32 elements each, of a head's width.
    steps: usize,
}

impl Packed {
    fn of(k: Strided<'_>, v: Strided<'_>, [length, count, width]: [usize; 3]) -> Self {
        let (panels, steps) = (length.div_ceil(SIDE), width.div_ceil(SIDE));
        let all = || (0..count * panels * steps).into_par_iter().with_min_len(16);
        let row = |panel: usize, i: usize| Some(panel * SIDE + i).filter(|&row| row < length);
        let keys = all().map(|at| {
            let (head, panel, step) = (at / steps / panels, at / steps % panels, at % steps);
            let k = k.head(head);
            pack_columns(|i| row(panel, i).map_or(&[], |row| k.values(row, step)))
        });
        let values = all().map(|at| {
            let (head, step, panel) = (at / steps / panels, at / panels % steps, at % panels);
            let v = v.head(head);
            pack_rows(|i| row(panel, i).map_or(&[], |row| v.values(row, step)))
        });
        Self { keys: keys.collect(), values: values.collect(), length, steps }
    }

    fn panels(&self) -> usize {
        self.length.div_ceil(SIDE)
    }

    /// One panel of a head, all of its width.
    fn keys(&self, head: usize, panel: usize) -> &[Line] {
        let first = (head * self.panels() + panel) * self.steps;
        self.keys.get(first..first + self.steps).unwrap_or_default().as_flattened()
    }

    /// Some keys' values, 32 elements of a head.
    fn values(&self, head: usize, step: usize, panels: [usize; 2]) -> &[Line] {
        let first = (head * self.steps + step) * self.panels();
        self.values[first + panels[0]..first + panels[1]].as_flattened()
    }
}

/// One head's share.
struct Head<'a> {
    q: Strided<'a>,
    packed: &'a Packed,
    head: usize,
    /// To base 2.
    scale: f32,
    mask: HeadMask<'a>,
}

/// What a task needs; kept from one to the next.
#[derive(Default)]
struct Scratch {
    queries: Vec<[Line; STEP]>,
    scores: Vec<Block>,
    weights: Vec<[Line; STEP]>,
    /// Of each 32 queries.
    states: Vec<State>,
}

/// Of 32 queries.
#[derive(Clone)]
pub(super) struct State {
    /// The largest score so far.
    largest: [f32; SIDE],
    /// Σ 2^(score − largest) so far.
    sums: [f32; SIDE],
    /// Σ weight · value: (d/32)
    out: Vec<Block>,
}

impl Scratch {
    fn attend<T: Tiles>(&mut self, tiles: &T, head: &Head<'_>, mut out: Rectangle<'_, bf16>) {
        let &Head { packed, head: number, .. } = head;
        let (rows, steps, panels) = (out.rows(), packed.steps, packed.panels());
        let blocks = rows.len().div_ceil(SIDE);
        self.prepare(head, rows.clone(), steps);
        for from in (0..panels).step_by(PANELS) {
            let to = panels.min(from + PANELS);
            for block in 0..blocks {
                let first = rows.start + block * SIDE;
                let last = rows.end.min(first + SIDE) - 1;
                if matches!(head.mask, HeadMask::Causal) && from * SIDE > last {
                    continue;
                }
                let q = &self.queries[block * steps..][..steps];
                let q = Left::new(q.as_flattened(), Strides::PACKED);
                for (panel, scores) in (from..to).zip(&mut self.scores) {
                    let next = packed.keys(number, panel + 1);
                    tiles.product(q, packed.keys(number, panel), scores, Onto::Zero, next);
                }
                let chunk = Chunk {
                    scores: &mut self.scores[..to - from],
                    weights: &mut self.weights[..to - from],
                };
                let bias = match head.mask {
                    HeadMask::Bias(bias) => Some(bias),
                    HeadMask::None | HeadMask::Causal => None,
                };
                let mask = ChunkMask {
                    first,
                    from: from * SIDE,
                    keys: packed.length,
                    is_causal: matches!(head.mask, HeadMask::Causal),
                    bias,
                };
                let state = &mut self.states[block];
                weigh(chunk, state, head.scale, mask);
                let weights = self.weights[..to - from].as_flattened();
                let weights = Left::new(weights, Strides::PACKED);
                for (step, sums) in state.out.iter_mut().enumerate() {
                    let values = packed.values(number, step, [from, to]);
                    tiles.product(weights, values, sums, Onto::Itself, &[]);
                }
            }
        }
        let columns = out.columns().start;
        for (block, state) in self.states.iter().take(blocks).enumerate() {
            let first = rows.start + block * SIDE;
            for (step, sums) in state.out.iter().enumerate() {
                let column = columns + step * SIDE;
                let part = out.part(first..first + SIDE, column..column + SIDE);
                divide(sums, &state.sums, part);
            }
        }
    }

    /// Packs the queries, and begins the sums.
    fn prepare(&mut self, head: &Head<'_>, rows: std::ops::Range<usize>, steps: usize) {
        let blocks = rows.len().div_ceil(SIDE);
        self.queries.clear();
        self.queries.extend((0..blocks * steps).map(|at| {
            let first = rows.start + at / steps * SIDE;
            pack_step(
                |i| {
                    if first + i < rows.end { head.q.values(first + i, at % steps) } else { &[] }
                },
            )
        }));
        self.scores.resize(PANELS, Block::ZERO);
        self.weights.resize(PANELS, [Line::ZERO; STEP]);
        self.states.resize_with(blocks.max(self.states.len()), || State {
            largest: [0.0; SIDE],
            sums: [0.0; SIDE],
            out: Vec::new(),
        });
        for state in &mut self.states[..blocks] {
            state.largest.fill(f32::NEG_INFINITY);
            state.sums.fill(0.0);
            state.out.clear();
            state.out.resize(steps, Block::ZERO);
        }
    }
}

/// Scores of 32 queries for some panels of keys, and the weights that become of them.
pub(super) struct Chunk<'a> {
    scores: &'a mut [Block],
    weights: &'a mut [[Line; STEP]],
}

/// Which of a chunk's keys are seen.
#[derive(Clone, Copy)]
pub(super) struct ChunkMask<'a> {
    /// The first query.
    first: usize,
    /// The first key.
    from: usize,
    /// Keys that there are.
    keys: usize,
    is_causal: bool,
    /// What is added: (l, l).
    bias: Option<&'a [f32]>,
}

/// Halves onto each other: five steps, where one lane after the other would be 32.
#[inline(always)]
fn reduce(mut lanes: [f32; SIDE], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = SIDE / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] = f(lanes[j], lanes[j + half]);
        }
        half /= 2;
    }
    lanes[0]
}

vectorised! {
    /// Makes weights of scores, relative to the largest score so far; scales what has been summed up to the
    /// same and counts the new weights.
    fn weigh<'a>(chunk: Chunk<'a>, state: &'a mut State, scale: f32, mask: ChunkMask<'a>) {
        let Chunk { scores, weights } = chunk;
        for i in 0..SIDE {
            let query = mask.first + i;
            let seen = if mask.is_causal { mask.keys.min(query + 1) } else { mask.keys };
            let mut lanes = [f32::NEG_INFINITY; SIDE];
            for (panel, scores) in scores.iter_mut().enumerate() {
                let key = mask.from + panel * SIDE;
                let row = &mut scores.0[i];
                for x in row.iter_mut() {
                    *x *= scale;
                }
                if let Some(bias) = mask.bias && query < mask.keys {
                    let bias = &bias[query * mask.keys..][..mask.keys];
                    for (x, b) in row.iter_mut().zip(&bias[key..]) {
                        *x = b.mul_add(std::f32::consts::LOG2_E, *x);
                    }
                }
                if key + SIDE > seen {
                    for (j, x) in row.iter_mut().enumerate() {
                        *x = if key + j < seen { *x } else { f32::NEG_INFINITY };
                    }
                }
                for j in 0..SIDE {
                    lanes[j] = if row[j] > lanes[j] { row[j] } else { lanes[j] };
                }
            }
            let found = reduce(lanes, |a, b| if a > b { a } else { b });
            let largest = &mut state.largest[i];
            if found > *largest {
                let factor = exp2(*largest - found);
                *largest = found;
                state.sums[i] *= factor;
                for out in &mut state.out {
                    for x in &mut out.0[i] {
                        *x *= factor;
                    }
                }
            }
            let mut lanes = [0f32; SIDE];
            for (scores, weights) in scores.iter().zip(weights.iter_mut()) {
                let (row, line) = (&scores.0[i], &mut weights[i].0);
                for j in 0..SIDE {
                    let weight = exp2(row[j] - *largest);
                    lanes[j] += weight;
                    line[j] = narrow(weight);
                }
            }
            state.sums[i] += reduce(lanes, |a, b| a + b);
        }
    }
}

vectorised! {
    /// out ← each row of a block by its sum.
    fn divide<'a>(block: &'a Block, sums: &'a [f32; SIDE], out: Rectangle<'a, bf16>) {
        let mut out = out;
        let rows = out.rows().len();
        for (i, (sum, row)) in sums.iter().zip(&block.0).enumerate().take(rows) {
            let factor = sum.recip();
            let mut row = *row;
            for x in &mut row {
                *x *= factor;
            }
            narrow_side(&row, out.row(i));
        }
    }
}
