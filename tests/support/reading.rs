//! Reads images of the demo model's world: which shapes, of which colours, stand where.
//!
//! Nothing is rendered to compare with. Pixels are told apart by colour, put together to pieces, and a
//! piece is known by its outline: where it begins and ends on nine lines across it.

/// The world's colours, as `tools/train-demo/world.py` has them, sRGB.
const COLOURS: [(&str, [u8; 3]); 12] = [
    ("red", [214, 40, 40]),
    ("orange", [247, 127, 0]),
    ("yellow", [255, 214, 51]),
    ("green", [56, 158, 76]),
    ("blue", [38, 98, 217]),
    ("purple", [128, 66, 181]),
    ("pink", [247, 140, 188]),
    ("brown", [121, 76, 46]),
    ("black", [28, 28, 34]),
    ("white", [250, 250, 248]),
    ("gray", [145, 148, 155]),
    ("teal", [38, 180, 170]),
];
/// Shapes are lighter at the top and darker at the bottom by at most this, in each channel.
const LIGHT: f32 = 24.0;
/// How far a pixel may be from its colour besides.
const MAX_DISTANCE: f32 = 56.0;
/// A piece's least share of the image; stars of the night sky and rims are smaller.
const MIN_SHARE: f32 = 0.004;
/// Lines across a piece that its outline is read on.
const LINES: usize = 9;
/// Outline, height over width, share of the holes.
type Outline = [f32; 2 * LINES + 2];

/// A shape that was found. Lengths are of the image's sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// As a caption names it.
    pub shape: &'static str,
    /// As a caption names it.
    pub colour: &'static str,
    /// Of its middle, from the left.
    pub x: f32,
    /// Of its middle, from the top.
    pub y: f32,
}

/// All shapes of an image (rows of RGB) that do not touch its border.
#[must_use]
pub fn read(rgb: &[u8], width: usize, height: usize) -> Vec<Found> {
    let nearest: Vec<Option<usize>> = rgb.as_chunks().0.iter().map(colour_of).collect();
    let mut found = Vec::new();
    for (index, (colour, _)) in COLOURS.iter().enumerate() {
        let mask = Mask::new(width, height, |at| nearest[at] == Some(index));
        for piece in mask.without_slivers().pieces() {
            let share = piece.pixels.len() as f32 / (width * height) as f32;
            if share >= MIN_SHARE && !piece.touches_border(width, height) {
                let (x, y) = piece.middle();
                let shape = shape_of(&piece.outline());
                found.push(Found { shape, colour, x: x / width as f32, y: y / height as f32 });
            }
        }
    }
    found
}

/// The nearest colour, lighter or darker by up to [`LIGHT`].
fn colour_of(pixel: &[u8; 3]) -> Option<usize> {
    let distance = |colour: &[u8; 3]| {
        let difference = [0, 1, 2].map(|i| f32::from(pixel[i]) - f32::from(colour[i]));
        let light = (difference.iter().sum::<f32>() / 3.0).clamp(-LIGHT, LIGHT);
        difference.iter().map(|d| (d - light).powi(2)).sum::<f32>().sqrt()
    };
    let (index, found) = COLOURS
        .iter()
        .map(|(_, colour)| distance(colour))
        .enumerate()
        .min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (found <= MAX_DISTANCE).then_some(index)
}

struct Mask {
    width: usize,
    height: usize,
    set: Vec<bool>,
}

impl Mask {
    fn new(width: usize, height: usize, is_set: impl Fn(usize) -> bool) -> Self {
        Self { width, height, set: (0..width * height).map(is_set).collect() }
    }

    /// Removes what is thinner than a fiftieth of the image: between two colours, edges have the
    /// colour of neither.
    fn without_slivers(&self) -> Self {
        let reach = (self.width / 128).max(1);
        self.eroded(reach).dilated(reach)
    }

    fn eroded(&self, reach: usize) -> Self {
        Self::new(self.width, self.height, |at| self.around(at, reach).all(|near| self.set[near]))
    }

    fn dilated(&self, reach: usize) -> Self {
        Self::new(self.width, self.height, |at| self.around(at, reach).any(|near| self.set[near]))
    }

    /// The pixels of the square around one, as far as they are in the image.
    fn around(&self, at: usize, reach: usize) -> impl Iterator<Item = usize> {
        let (x, y, width) = (at % self.width, at / self.width, self.width);
        let columns = x.saturating_sub(reach)..(x + reach + 1).min(width);
        let rows = y.saturating_sub(reach)..(y + reach + 1).min(self.height);
        rows.flat_map(move |row| columns.clone().map(move |column| row * width + column))
    }

    /// Connected pieces, by sides.
    fn pieces(&self) -> Vec<Piece> {
        let mut left = self.set.clone();
        let mut pieces = Vec::new();
        for start in 0..left.len() {
            if !left[start] {
                continue;
            }
            left[start] = false;
            let (mut pixels, mut todo) = (Vec::new(), vec![start]);
            while let Some(at) = todo.pop() {
                let (x, y) = (at % self.width, at / self.width);
                pixels.push((x, y));
                let mut visit = |near: usize| {
                    if std::mem::take(&mut left[near]) {
                        todo.push(near);
                    }
                };
                if x > 0 {
                    visit(at - 1);
                }
                if x + 1 < self.width {
                    visit(at + 1);
                }
                if y > 0 {
                    visit(at - self.width);
                }
                if y + 1 < self.height {
                    visit(at + self.width);
                }
            }
            pieces.push(Piece { pixels });
        }
        pieces
    }
}

struct Piece {
    /// (x, y)
    pixels: Vec<(usize, usize)>,
}

impl Piece {
    /// First and last column, first and last row.
    fn bounds(&self) -> [usize; 4] {
        let first = [usize::MAX, 0, usize::MAX, 0];
        self.pixels.iter().fold(first, |[left, right, top, bottom], &(x, y)| {
            [left.min(x), right.max(x), top.min(y), bottom.max(y)]
        })
    }

    fn touches_border(&self, width: usize, height: usize) -> bool {
        let [left, right, top, bottom] = self.bounds();
        left == 0 || top == 0 || right + 1 == width || bottom + 1 == height
    }

    fn middle(&self) -> (f32, f32) {
        let [left, right, top, bottom] = self.bounds();
        ((left + right + 1) as f32 / 2.0, (top + bottom + 1) as f32 / 2.0)
    }

    fn outline(&self) -> Outline {
        let [left, right, top, bottom] = self.bounds();
        let (width, height) = (right + 1 - left, bottom + 1 - top);
        // On each row, the first and the last pixel.
        let mut rows = vec![(usize::MAX, 0); height];
        for &(x, y) in &self.pixels {
            let row = &mut rows[y - top];
            *row = (row.0.min(x - left), row.1.max(x - left));
        }
        let mut outline = [0.0; 2 * LINES + 2];
        for line in 0..LINES {
            let (first, last) = rows[(2 * line + 1) * height / (2 * LINES)];
            outline[2 * line] = first as f32 / width as f32;
            outline[2 * line + 1] = (last + 1) as f32 / width as f32;
        }
        let spanned: usize = rows.iter().map(|(first, last)| last + 1 - first).sum();
        outline[2 * LINES] = height as f32 / width as f32;
        outline[2 * LINES + 1] = 3.0 * (1.0 - self.pixels.len() as f32 / spanned as f32);
        outline
    }
}

fn shape_of(outline: &Outline) -> &'static str {
    let distance =
        |of: &Outline| -> f32 { of.iter().zip(outline).map(|(a, b)| (a - b) * (a - b)).sum() };
    OUTLINES
        .iter()
        .min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)))
        .map_or("", |(shape, _)| shape)
}

include!("outlines.rs");
