//! The reader of images from anybody, for fuzzing.

use crate::InputFile;

/// Of what is decoded here: what takes longer finds no more.
const MAX_PIXELS: u64 = 1 << 18;

/// An image's file, and the same as a mask.
pub fn input_image(file: &[u8]) {
    if let Ok(scanned) = InputFile::scan(file.to_vec().into())
        && scanned.pixels() <= MAX_PIXELS
    {
        let read_px = scanned.read_px();
        if let Ok(decoded) = scanned.decode() {
            assert_eq!(decoded.image.read_px(), read_px.map(|side| side as usize));
        }
        if let Ok(mask) = InputFile::scan(file.to_vec().into()).map(InputFile::decode_mask)
            && let Ok(mask) = mask
        {
            assert_eq!(mask.read_px(), read_px.map(|side| side as usize));
        }
    }
}
