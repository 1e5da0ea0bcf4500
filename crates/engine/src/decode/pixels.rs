//! From what a decoder gives to red, green and blue in 8 bits, the right way up.

use image::{ColorType, metadata::Orientation};
use protocol::SecretBytes;

/// Values of pixels, row by row.
pub(super) struct Pixels {
    values: SecretBytes,
    width: usize,
    /// Of a pixel: grey, grey and alpha, colours, colours and alpha.
    channels: usize,
    /// Whether a value has 16 bits.
    is_deep: bool,
}

impl Pixels {
    /// `None` where the decoder gives another kind than these formats have.
    pub(super) fn new(values: SecretBytes, color: ColorType, width: usize) -> Option<Self> {
        let (channels, is_deep) = match color {
            ColorType::L8 => (1, false),
            ColorType::La8 => (2, false),
            ColorType::Rgb8 => (3, false),
            ColorType::Rgba8 => (4, false),
            ColorType::L16 => (1, true),
            ColorType::La16 => (2, true),
            ColorType::Rgb16 => (3, true),
            ColorType::Rgba16 => (4, true),
            _ => return None,
        };
        Some(Self { values, width, channels, is_deep })
    }

    /// Whether some pixel lets something through.
    pub(super) fn is_transparent(&self) -> bool {
        let value_bytes = if self.is_deep { 2 } else { 1 };
        let alphas = self.values.chunks_exact(self.channels * value_bytes);
        self.channels.is_multiple_of(2)
            && alphas.into_iter().any(|pixel| {
                pixel[(self.channels - 1) * value_bytes..].iter().any(|byte| *byte != 0xff)
            })
    }

    /// Alpha alone, where there is any.
    pub(super) fn into_alpha(self) -> Option<Plain<1>> {
        if !self.channels.is_multiple_of(2) {
            return None;
        }
        let values = if self.is_deep { narrowed(self.values) } else { self.values };
        let mut alpha = SecretBytes::with_capacity(values.len() / self.channels);
        alpha.extend(values.chunks_exact(self.channels).map(|pixel| pixel[self.channels - 1]));
        Some(Plain { values: alpha, width: self.width })
    }

    /// Without alpha, on white.
    pub(super) fn into_rgb(self) -> Plain<3> {
        let width = self.width;
        if self.channels == 3 && !self.is_deep {
            return Plain { values: self.values, width };
        }
        let values = if self.is_deep { narrowed(self.values) } else { self.values };
        let pixels = values.chunks_exact(self.channels);
        let mut rgb = SecretBytes::with_capacity(3 * pixels.len());
        for pixel in pixels {
            rgb.extend(match *pixel {
                [grey] => [grey; 3],
                [grey, alpha] => [on_white(grey, alpha); 3],
                [r, g, b, alpha] => [r, g, b].map(|value| on_white(value, alpha)),
                [r, g, b, ..] => [r, g, b],
                [] => [0; 3],
            });
        }
        Plain { values: rgb, width }
    }
}

/// 16 bits, in this machine's order, to the nearest of 8; where they lie.
fn narrowed(mut values: SecretBytes) -> SecretBytes {
    let deep = values.len() / 2;
    for i in 0..deep {
        let value = u32::from(u16::from_ne_bytes([values[2 * i], values[2 * i + 1]]));
        values[i] = ((value * 255 + 32_767) / 65_535) as u8;
    }
    values.truncate(deep);
    values
}

fn on_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// So many values of 8 bits a pixel, row by row: red, green and blue, or alpha.
pub(super) struct Plain<const CHANNELS: usize> {
    values: SecretBytes,
    width: usize,
}

impl<const CHANNELS: usize> Plain<CHANNELS> {
    /// The right way up.
    pub(super) fn turned(self, orientation: Orientation) -> SecretBytes {
        if orientation == Orientation::NoTransforms {
            return self.values;
        }
        let (width, height) = (self.width, self.values.len() / CHANNELS / self.width.max(1));
        let mut turned = SecretBytes::with_capacity(self.values.len());
        let mut put = |x: usize, y: usize| {
            let at = CHANNELS * (y * width + x);
            turned.extend_from_slice(&self.values[at..at + CHANNELS]);
        };
        let (last_x, last_y) = (width.wrapping_sub(1), height.wrapping_sub(1));
        match orientation {
            Orientation::NoTransforms
            | Orientation::FlipHorizontal
            | Orientation::FlipVertical
            | Orientation::Rotate180 => {
                let flips_x =
                    matches!(orientation, Orientation::FlipHorizontal | Orientation::Rotate180);
                let flips_y =
                    matches!(orientation, Orientation::FlipVertical | Orientation::Rotate180);
                for y in 0..height {
                    let y = if flips_y { last_y - y } else { y };
                    (0..width).for_each(|x| put(if flips_x { last_x - x } else { x }, y));
                }
            }
            // Columns become rows.
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => {
                let from_right =
                    matches!(orientation, Orientation::Rotate270 | Orientation::Rotate270FlipH);
                let from_below =
                    matches!(orientation, Orientation::Rotate90 | Orientation::Rotate270FlipH);
                for x in 0..width {
                    let x = if from_right { last_x - x } else { x };
                    (0..height).for_each(|y| put(x, if from_below { last_y - y } else { y }));
                }
            }
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, RgbImage};

    use super::*;

    #[test]
    fn each_orientation_is_that_of_the_image_crate() {
        let values: Vec<u8> = (0..3 * 3 * 2).collect();
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let mut theirs =
                DynamicImage::ImageRgb8(RgbImage::from_raw(3, 2, values.clone()).unwrap());
            theirs.apply_orientation(orientation);
            let ours = Plain::<3> { values: values.clone().into(), width: 3 }.turned(orientation);
            assert_eq!(*ours, theirs.into_bytes(), "{exif}");
        }
    }

    #[test]
    fn every_kind_of_pixel_becomes_8_bits_of_colour_on_white() {
        let rgb = |values: &[u8], color| {
            let pixels = Pixels::new(values.to_vec().into(), color, 1).unwrap();
            (pixels.is_transparent(), pixels.into_rgb().values.to_vec())
        };
        let deep = |values: &[u16]| values.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(rgb(&[7], ColorType::L8), (false, vec![7, 7, 7]));
        assert_eq!(rgb(&[7, 255], ColorType::La8), (false, vec![7, 7, 7]));
        assert_eq!(rgb(&[7, 0], ColorType::La8), (true, vec![255, 255, 255]));
        assert_eq!(rgb(&[1, 2, 3], ColorType::Rgb8), (false, vec![1, 2, 3]));
        assert_eq!(rgb(&[0, 255, 100, 128], ColorType::Rgba8), (true, vec![127, 255, 177]));
        assert_eq!(rgb(&deep(&[0x8000]), ColorType::L16), (false, vec![128; 3]));
        let colours = deep(&[0, 0xffff, 0x0101, 0xffff]);
        assert_eq!(rgb(&colours, ColorType::Rgba16), (false, vec![0, 255, 1]));
        assert_eq!(rgb(&deep(&[0, 0xfffe]), ColorType::La16), (true, vec![0; 3]));
        assert!(Pixels::new(Vec::new().into(), ColorType::Rgb32F, 1).is_none());
        let alpha = |values: &[u8], color| {
            let pixels = Pixels::new(values.to_vec().into(), color, 1).unwrap();
            pixels.into_alpha().map(|alpha| alpha.values.to_vec())
        };
        assert_eq!(alpha(&[1, 2, 3, 4, 5, 6, 7, 8], ColorType::Rgba8), Some(vec![4, 8]));
        assert_eq!(alpha(&deep(&[7, 0x8000]), ColorType::La16), Some(vec![128]));
        assert_eq!((alpha(&[1], ColorType::L8), alpha(&[1, 2, 3], ColorType::Rgb8)), (None, None));
    }
}
