//! From an image's file to pixels: PNG, JPEG and WebP from anybody.
//!
//! A file is scanned before it is decoded. The scan walks the file's own structure, in one pass and without
//! memory: what it is, how large, which way up, and whether all of it is there. So pixels, memory and time are
//! bounded by numbers that this module has read, and a decoder is given nothing that it would have to believe.
//! What a decoder then makes of damaged data costs one request: its errors have a name, and so have its panics.

mod exif;
mod jpeg;
mod pixels;
mod png;
mod webp;

use std::{
    io::{Cursor, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
};

use flux::{InputImage, InputImageError, InputMask, InputMaskError};
use image::{
    ImageDecoder, ImageError, ImageResult, Limits,
    codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};
use protocol::{InvalidInputImage, InvalidMask, SecretBytes};

use self::pixels::Pixels;

/// The most pixels that are decoded.
const MAX_PIXELS: u64 = InputImage::MAX_FILE_PIXELS;
/// Beside the pixels: rows, tables, a file's metadata, which the file pays for.
const MAX_WORKING_BYTES: u64 = 64 << 20;

/// A file that was scanned: an image of a known size, all of it there. Wiped when dropped.
pub struct InputFile {
    bytes: SecretBytes,
    header: Header,
}

/// What a scan finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    format: Format,
    width_px: u32,
    height_px: u32,
    orientation: Orientation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    WebP,
}

/// An input image, ready for the model.
pub struct Decoded {
    /// Its pixels, no more of them than are read.
    pub image: InputImage,
    /// Whether something of it was transparent, which is white now.
    pub was_transparent: bool,
}

impl InputFile {
    /// Scans a file.
    ///
    /// # Errors
    /// Where it is no image of the three formats, has several frames, is cut off, or is larger than what is
    /// decoded.
    pub fn scan(bytes: SecretBytes) -> Result<Self, InvalidInputImage> {
        let header = match &bytes[..] {
            [] => Err(InvalidInputImage::Empty),
            file if file.starts_with(&png::SIGNATURE) => png::scan(file),
            file if file.starts_with(&jpeg::SIGNATURE) => jpeg::scan(file),
            file if file.starts_with(&webp::SIGNATURE) => webp::scan(file),
            _ => Err(InvalidInputImage::UnknownFormat),
        }?;
        let Header { width_px, height_px, .. } = header;
        if header.pixels() > MAX_PIXELS {
            let max_pixels = MAX_PIXELS;
            return Err(InvalidInputImage::Pixels { width_px, height_px, max_pixels });
        }
        InputImage::size_read(header.upright_px().map(|side| side as usize)).map_err(refused)?;
        Ok(Self { bytes, header })
    }

    /// Width and height of what is read of it, the right way up.
    #[must_use]
    pub fn read_px(&self) -> [u32; 2] {
        let upright = self.header.upright_px();
        let read = InputImage::size_read(upright.map(|side| side as usize));
        // `scan` took it.
        read.map_or(upright, |sides| sides.map(|side| side as u32))
    }

    /// Whether it may be the mask of another file's image.
    ///
    /// # Errors
    /// [`InvalidMask::Size`] where it is not as large.
    pub fn check_masks(&self, image: &Self) -> Result<(), InvalidMask> {
        let (mask_px, image_px) = (self.header.upright_px(), image.header.upright_px());
        match mask_px == image_px {
            true => Ok(()),
            false => Err(InvalidMask::Size { mask_px, image_px }),
        }
    }

    /// Width × height of the file's image.
    pub(crate) fn pixels(&self) -> u64 {
        self.header.pixels()
    }

    /// The file as it is.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its pixels. Milliseconds to seconds of work, and at most [`InputImage::FILE_PIXEL_BYTES`] for each of the file's.
    ///
    /// # Errors
    /// Where its data does not hold what its structure says.
    pub fn decode(self) -> Result<Decoded, InvalidInputImage> {
        guarded(|| {
            let pixels = self.pixels_unguarded()?;
            self.image_of(pixels)
        })
    }

    /// The mask that it is: what is transparent is drawn anew. As much work as [`InputFile::decode`].
    ///
    /// # Errors
    /// Where its data does not hold what its structure says, has no alpha channel, or is transparent nowhere.
    pub fn decode_mask(self) -> Result<InputMask, InvalidMask> {
        guarded(|| {
            let alpha = self.pixels_unguarded()?.into_alpha().ok_or(InvalidMask::NoAlpha)?;
            let [width_px, height_px] = self.header.upright_px().map(|side| side as usize);
            let alpha = alpha.turned(self.header.orientation);
            InputMask::new(width_px, height_px, alpha).map_err(|error| match error {
                InputMaskError::Size(error) => refused(error).into(),
                InputMaskError::Opaque => InvalidMask::Opaque,
                _ => InvalidInputImage::Damaged.into(),
            })
        })
    }

    fn pixels_unguarded(&self) -> Result<Pixels, InvalidInputImage> {
        let file = Cursor::new(&self.bytes[..]);
        match self.header.format {
            Format::Png => {
                let mut limits = Limits::no_limits();
                limits.max_alloc = Some(MAX_WORKING_BYTES);
                self.read(PngDecoder::with_limits(file, limits))
            }
            Format::Jpeg => self.read(JpegDecoder::new(file)),
            Format::WebP => self.read(WebPDecoder::new(file)),
        }
    }

    fn image_of(&self, pixels: Pixels) -> Result<Decoded, InvalidInputImage> {
        let was_transparent = pixels.is_transparent();
        let [width_px, height_px] = self.header.upright_px().map(|side| side as usize);
        let rgb = pixels.into_rgb().turned(self.header.orientation);
        let image = InputImage::new(width_px, height_px, rgb).map_err(refused)?;
        Ok(Decoded { image: image.scaled_down(), was_transparent })
    }

    fn read(&self, decoder: ImageResult<impl ImageDecoder>) -> Result<Pixels, InvalidInputImage> {
        let decoder = decoder.map_err(damage)?;
        let Header { width_px, height_px, .. } = self.header;
        if decoder.dimensions() != (width_px, height_px) {
            return Err(InvalidInputImage::Damaged);
        }
        let color = decoder.color_type();
        // At most eight bytes a pixel, of as many pixels as `scan` took.
        let bytes =
            usize::try_from(decoder.total_bytes()).map_err(|_| InvalidInputImage::Damaged)?;
        let mut values = SecretBytes::from(vec![0; bytes]);
        decoder.read_image(&mut values).map_err(damage)?;
        Pixels::new(values, color, width_px as usize).ok_or(InvalidInputImage::Damaged)
    }
}

impl Header {
    fn pixels(&self) -> u64 {
        u64::from(self.width_px) * u64::from(self.height_px)
    }

    /// Width and height, the right way up.
    fn upright_px(&self) -> [u32; 2] {
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => [self.height_px, self.width_px],
            _ => [self.width_px, self.height_px],
        }
    }
}

/// Decoders of such formats have been made to panic before.
fn guarded<T, E: From<InvalidInputImage>>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    decoded.unwrap_or(Err(InvalidInputImage::Damaged.into()))
}

/// A decoder's words may quote the file, and are not passed on.
fn damage(error: ImageError) -> InvalidInputImage {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            InvalidInputImage::Truncated
        }
        _ => InvalidInputImage::Damaged,
    }
}

fn refused(error: InputImageError) -> InvalidInputImage {
    let px = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    match error {
        InputImageError::Side { width_px, height_px } => InvalidInputImage::Side {
            width_px: px(width_px),
            height_px: px(height_px),
            min_px: px(InputImage::MIN_SIDE_PX),
            max_px: px(InputImage::MAX_SIDE_PX),
        },
        InputImageError::Aspect { width_px, height_px } => InvalidInputImage::Aspect {
            width_px: px(width_px),
            height_px: px(height_px),
            max: px(InputImage::MAX_ASPECT),
        },
        _ => InvalidInputImage::Damaged,
    }
}

#[cfg(test)]
mod tests;
