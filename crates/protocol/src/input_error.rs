//! What may be wrong with an input image.

use thiserror::Error;

/// Why an input image is not read. Never carries anything of it but its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidInputImage {
    /// Neither a text nor an object with one.
    #[error("must be a `data:` URL, or an object with one as its `image_url`")]
    NoUrl,
    /// An address elsewhere.
    #[error("is a URL to fetch, and a node fetches nothing: send the image in a `data:` URL")]
    Remote,
    /// A file that would have been uploaded before.
    #[error("is a `file_id`, and a node stores no files: send the image in a `data:` URL")]
    FileId,
    /// The URL's data.
    #[error("is not in padded base64: `data:image/png;base64,…`")]
    NotBase64,
    /// No bytes.
    #[error("is empty")]
    Empty,
    /// By its first bytes.
    #[error("is neither PNG, JPEG nor WebP")]
    UnknownFormat,
    /// It ends before its image does.
    #[error("is cut off")]
    Truncated,
    /// It contradicts its own format.
    #[error("is damaged")]
    Damaged,
    /// Several frames.
    #[error("is animated: send one frame")]
    Animated,
    /// A JPEG of four colours.
    #[error("is in CMYK: convert it to RGB")]
    Cmyk,
    /// A JPEG of a kind that is hardly ever written: 12 bits, arithmetic, lossless or hierarchical coding.
    #[error("is a JPEG that is neither baseline nor progressive with 8 bits")]
    RareJpeg,
    /// A JPEG that is refined again and again.
    #[error("is a JPEG of {found} scans, at most {most} are read")]
    Scans {
        /// What it has.
        found: usize,
        /// What is read.
        most: usize,
    },
    /// More pixels than are decoded.
    #[error("has {width_px}×{height_px} pixels, at most {max_pixels} are decoded")]
    Pixels {
        /// Its width.
        width_px: u32,
        /// Its height.
        height_px: u32,
        /// The bound, width × height.
        max_pixels: u64,
    },
    /// A side is too short or too long.
    #[error("has {width_px}×{height_px} pixels; sides must be from {min_px} to {max_px}")]
    Side {
        /// Its width.
        width_px: u32,
        /// Its height.
        height_px: u32,
        /// The shortest that is read.
        min_px: u32,
        /// The longest that is read.
        max_px: u32,
    },
    /// One side is far longer than the other.
    #[error("has {width_px}×{height_px} pixels; one side may be {max} times the other at most")]
    Aspect {
        /// Its width.
        width_px: u32,
        /// Its height.
        height_px: u32,
        /// The most that is read.
        max: u32,
    },
}

/// Why a mask is not followed. Never carries anything of it but its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidMask {
    /// The file is no image that is read.
    #[error(transparent)]
    File(#[from] InvalidInputImage),
    /// It is not as large as the first input image.
    #[error(
        "has {}×{} pixels, and the first image {}×{}: a mask is as large as that",
        mask_px[0], mask_px[1], image_px[0], image_px[1]
    )]
    Size {
        /// Its width and height.
        mask_px: [u32; 2],
        /// The image's.
        image_px: [u32; 2],
    },
    /// An image without transparency.
    #[error("has no alpha channel: a PNG is transparent where the image is drawn anew")]
    NoAlpha,
    /// It keeps everything.
    #[error(
        "is transparent nowhere: a PNG has alpha 0 where the image is drawn anew, in the middle of at least one 16×16 pixels"
    )]
    Opaque,
}
