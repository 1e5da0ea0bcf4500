//! An image's luma, and what is around each pixel.

/// One value a pixel, row by row.
#[derive(Clone)]
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) values: Vec<f32>,
}

impl Plane {
    /// The luma (ITU-R BT.601) of RGB pixels, three bytes each, 0 to 255.
    pub(super) fn luma(width: usize, height: usize, rgb: &[u8]) -> Self {
        let luma = |pixel: &[u8]| {
            0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2])
        };
        Self { width, height, values: rgb.chunks_exact(3).map(luma).collect() }
    }

    pub(super) fn map(self, of: impl Fn(f32) -> f32) -> Self {
        Self { values: self.values.into_iter().map(of).collect(), ..self }
    }

    /// With another plane of its size, value by value.
    pub(super) fn zip(mut self, other: &Self, of: impl Fn(f32, f32) -> f32) -> Self {
        for (value, other) in self.values.iter_mut().zip(&other.values) {
            *value = of(*value, *other);
        }
        self
    }

    /// Around each pixel, the mean of the (2 `radius` + 1)² pixels, the border's repeated outside.
    pub(super) fn mean(&self, radius: usize) -> Self {
        self.mean_across(radius).mean_down(radius)
    }

    pub(super) fn mean_across(&self, radius: usize) -> Self {
        let level = 1.0 / (2 * radius + 1) as f32;
        let mut values = Vec::with_capacity(self.values.len());
        let mut padded = Vec::with_capacity(self.width + 2 * radius + 1);
        for row in self.values.chunks_exact(self.width) {
            padded.clear();
            padded.extend(std::iter::repeat_n(row[0], radius));
            padded.extend_from_slice(row);
            padded.extend(std::iter::repeat_n(row[self.width - 1], radius + 1));
            let mut sum: f32 = padded[..2 * radius + 1].iter().sum();
            for (leaving, coming) in padded.iter().zip(&padded[2 * radius + 1..]) {
                values.push(sum * level);
                sum += coming - leaving;
            }
        }
        Self { values, ..*self }
    }

    pub(super) fn mean_down(&self, radius: usize) -> Self {
        let level = 1.0 / (2 * radius + 1) as f32;
        let row = |y: isize| {
            let y = y.clamp(0, self.height as isize - 1) as usize;
            &self.values[y * self.width..][..self.width]
        };
        let radius = radius as isize;
        let mut sums = vec![0.0; self.width];
        for y in -radius..=radius {
            sums.iter_mut().zip(row(y)).for_each(|(sum, value)| *sum += value);
        }
        let mut values = Vec::with_capacity(self.values.len());
        for y in 0..self.height as isize {
            values.extend(sums.iter().map(|sum| sum * level));
            let (coming, leaving) = (row(y + radius + 1), row(y - radius));
            for ((sum, coming), leaving) in sums.iter_mut().zip(coming).zip(leaving) {
                *sum += coming - leaving;
            }
        }
        Self { values, ..*self }
    }

    /// `width` × `height` of it, from `left` and `top`.
    pub(super) fn crop(&self, (left, top): (usize, usize), width: usize, height: usize) -> Self {
        let rows = self.values.chunks_exact(self.width).skip(top).take(height);
        let values = rows.flat_map(|row| &row[left..left + width]).copied().collect();
        Self { width, height, values }
    }

    /// At half its size: the mean of each four.
    pub(super) fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut values = Vec::with_capacity(width * height);
        for rows in self.values.chunks_exact(2 * self.width).take(height) {
            let (upper, lower) = rows.split_at(self.width);
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            values.extend(pairs.map(|(a, b)| (a[0] + a[1] + b[0] + b[1]) / 4.0));
        }
        Self { width, height, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_pixels_around() {
        let (width, height) = (7_usize, 5_usize);
        let values: Vec<f32> = (0..35).map(|n| ((n * n) % 17) as f32).collect();
        let plane = Plane { width, height, values };
        for radius in [0, 1, 3, 9] {
            let mean = plane.mean(radius);
            let reach = radius as isize;
            for (n, found) in mean.values.iter().enumerate() {
                let (x, y) = ((n % width) as isize, (n / width) as isize);
                let mut sum = 0.0;
                for dy in -reach..=reach {
                    for dx in -reach..=reach {
                        let x = (x + dx).clamp(0, 6) as usize;
                        let y = (y + dy).clamp(0, 4) as usize;
                        sum += plane.values[y * width + x];
                    }
                }
                let count = (2 * radius + 1) as f32;
                assert!((found - sum / (count * count)).abs() < 1e-3);
            }
        }
        let half = plane.halved();
        assert_eq!((half.width, half.height, half.values.len()), (3, 2, 6));
        assert_eq!(plane.crop((2, 1), 3, 2).values[..3], plane.values[9..12]);
    }
}
