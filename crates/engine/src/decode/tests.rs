use std::io::Cursor;

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
};

use super::*;

fn scan(file: &[u8]) -> Result<InputFile, InvalidInputImage> {
    InputFile::scan(file.to_vec().into())
}

fn decode(file: &[u8]) -> Result<Decoded, InvalidInputImage> {
    scan(file)?.decode()
}

/// Of 96×64 pixels.
fn gradient() -> Vec<u8> {
    (0..64_u8).flat_map(|y| (0..96_u8).flat_map(move |x| [x, 2 * y, x / 2 + y])).collect()
}

fn png(values: &[u8], color: ExtendedColorType, (width, height): (u32, u32)) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    PngEncoder::new(&mut file).write_image(values, width, height, color).unwrap();
    file.into_inner()
}

fn gradient_png() -> Vec<u8> {
    png(&gradient(), ExtendedColorType::Rgb8, (96, 64))
}

fn gradient_jpeg() -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut file, 95);
    encoder.write_image(&gradient(), 96, 64, ExtendedColorType::Rgb8).unwrap();
    file
}

fn gradient_webp() -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut file);
    encoder.write_image(&gradient(), 96, 64, ExtendedColorType::Rgb8).unwrap();
    file
}

/// EXIF that says nothing but which way up.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = 0xffff_ffff_u32;
    for byte in name.iter().chain(data) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    let length = (data.len() as u32).to_be_bytes();
    [&length[..], name, data, &(!crc).to_be_bytes()].concat()
}

/// A PNG with another chunk behind its header.
fn with_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut file = gradient_png();
    file.splice(33..33, chunk(name, data));
    file
}

/// A PNG's header alone, and an end.
fn header(width: u32, height: u32, depth: u8, color: u8) -> Vec<u8> {
    let mut data = [width.to_be_bytes(), height.to_be_bytes()].concat();
    data.extend([depth, color, 0, 0, 0]);
    let idat = chunk(b"IDAT", b"\x78\x9c\x03\0\0\0\0\x01");
    [&png::SIGNATURE[..], &chunk(b"IHDR", &data), &idat, &chunk(b"IEND", b"")].concat()
}

/// A JPEG with another marker behind its start.
fn with_marker(marker: u8, data: &[u8]) -> Vec<u8> {
    let mut file = gradient_jpeg();
    let mut segment = vec![0xff, marker];
    segment.extend((data.len() as u16 + 2).to_be_bytes());
    segment.extend(data);
    file.splice(2..2, segment);
    file
}

/// A JPEG whose frame is said to be another.
fn with_frame(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut file = gradient_jpeg();
    let at = file.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    change(&mut file[at..at + 10]);
    file
}

fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, data) in chunks {
        body.extend(*name);
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(*data);
        body.extend(vec![0; data.len() % 2]);
    }
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// The image's own chunk of the lossless file.
fn vp8l() -> Vec<u8> {
    let file = gradient_webp();
    let length = u32::from_le_bytes(file[16..20].try_into().unwrap()) as usize;
    assert_eq!(&file[12..16], b"VP8L");
    file[20..20 + length].to_vec()
}

fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let mut data = vec![flags, 0, 0, 0];
    data.extend(&(width - 1).to_le_bytes()[..3]);
    data.extend(&(height - 1).to_le_bytes()[..3]);
    data
}

#[test]
fn the_three_formats_are_known_by_their_content() {
    let expected = gradient();
    for (file, tolerance) in [(gradient_png(), 0), (gradient_jpeg(), 12), (gradient_webp(), 0)] {
        let scanned = scan(&file).unwrap();
        assert_eq!(scanned.read_px(), [96, 64]);
        let decoded = scanned.decode().unwrap();
        assert_eq!((decoded.image.read_px(), decoded.was_transparent), ([96, 64], false));
        let rgb = rgb(&decoded);
        assert_eq!(rgb.len(), expected.len());
        assert!(rgb.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= tolerance));
    }
}

/// What the pipeline would read, without a way to look into an [`InputImage`].
fn rgb(decoded: &Decoded) -> Vec<u8> {
    decoded.image.rgb().to_vec()
}

#[test]
fn grey_palettes_alpha_and_16_bits_are_read() {
    let grey: Vec<u8> = (0..64 * 64).map(|i| (i / 64 * 3) as u8).collect();
    let tripled: Vec<u8> = grey.iter().flat_map(|value| [*value; 3]).collect();
    let size = (64, 64);
    let of = |values: &[u8], color| decode(&png(values, color, size)).unwrap();
    assert_eq!(rgb(&of(&grey, ExtendedColorType::L8)), tripled);
    let opaque: Vec<u8> = grey.iter().flat_map(|value| [*value, 255]).collect();
    let read = of(&opaque, ExtendedColorType::La8);
    assert_eq!((rgb(&read), read.was_transparent), (tripled.clone(), false));
    let clear: Vec<u8> = grey.iter().flat_map(|value| [*value, *value, *value, 0]).collect();
    let read = of(&clear, ExtendedColorType::Rgba8);
    assert_eq!((rgb(&read), read.was_transparent), (vec![255; 3 * 64 * 64], true));
    let deep: Vec<u8> = tripled.iter().flat_map(|value| [*value, *value]).collect();
    assert_eq!(rgb(&of(&deep, ExtendedColorType::Rgb16)), tripled);

    // A palette of two colours, a bit a pixel: rows of zeros.
    let mut file = header(64, 64, 1, 3);
    let at = file.windows(4).position(|name| name == b"IDAT").unwrap() - 4;
    let stored: Vec<u8> = [&[0x78, 0x01, 0x01, 0x40, 0x02, 0xbf, 0xfd][..], &[0; 9 * 64]].concat();
    let adler = ((9 * 64) << 16) | 1_u32;
    let data = [&stored[..], &adler.to_be_bytes()].concat();
    let rest = [chunk(b"PLTE", &[9, 8, 7, 0, 0, 0]), chunk(b"IDAT", &data), chunk(b"IEND", b"")];
    file.splice(at.., rest.concat());
    assert_eq!(rgb(&decode(&file).unwrap()), [9, 8, 7].repeat(64 * 64));

    let mut jpeg = Vec::new();
    JpegEncoder::new(&mut jpeg).write_image(&grey, 64, 64, ExtendedColorType::L8).unwrap();
    let read = rgb(&decode(&jpeg).unwrap());
    assert!(read.chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
}

/// The same picture from both kinds of file, which differ in how the same coefficients are written. (Of 80×72 pixels of
/// `klein_models.input_picture`, by Pillow 13.0.0 with `quality=60, subsampling=2`; one with `progressive=True`.)
#[test]
fn a_progressive_jpeg_shows_what_a_baseline_one_does() {
    let progressive = include_bytes!("fixtures/progressive.jpg");
    let baseline = include_bytes!("fixtures/baseline.jpg");
    let has = |file: &[u8], marker| file.windows(2).any(|pair| pair == [0xff, marker]);
    assert!(has(progressive, 0xc2) && !has(progressive, 0xc0) && has(baseline, 0xc0));
    let scans = progressive.windows(2).filter(|pair| *pair == [0xff, 0xda]).count();
    assert!(scans > 5, "{scans} scans");
    let read = decode(progressive).unwrap();
    assert_eq!(read.image.read_px(), [80, 64]);
    assert!(rgb(&read) == rgb(&decode(baseline).unwrap()));
    for end in (3..progressive.len()).step_by(11) {
        let refused = scan(&progressive[..end]).err();
        assert_eq!(refused, Some(InvalidInputImage::Truncated), "{end}");
    }
}

#[test]
fn a_masks_transparency_is_read_the_right_way_up() {
    // Transparent in the upper left quarter.
    let alpha = |x: u32, y: u32| if x < 48 && y < 32 { 0 } else { 255 };
    let rgba: Vec<u8> =
        (0..64).flat_map(|y| (0..96).flat_map(move |x| [7, 7, 7, alpha(x, y)])).collect();
    let file = png(&rgba, ExtendedColorType::Rgba8, (96, 64));
    let mask = scan(&file).unwrap().decode_mask().unwrap();
    assert_eq!(mask.read_px(), [96, 64]);
    let grey: Vec<u8> = rgba.chunks(4).flat_map(|pixel| [pixel[0], pixel[3]]).collect();
    let grey = png(&grey, ExtendedColorType::La8, (96, 64));
    assert!(scan(&grey).unwrap().decode_mask().is_ok());
    let mut turned = file.clone();
    turned.splice(33..33, chunk(b"eXIf", &exif(6)));
    let turned = scan(&turned).unwrap();
    assert_eq!(
        turned.check_masks(&scan(&file).unwrap()),
        Err(InvalidMask::Size { mask_px: [64, 96], image_px: [96, 64] })
    );
    assert_eq!(turned.decode_mask().unwrap().read_px(), [64, 96]);
    for file in [gradient_png(), gradient_jpeg(), gradient_webp()] {
        assert_eq!(scan(&file).unwrap().decode_mask().err(), Some(InvalidMask::NoAlpha));
    }
    let opaque = png(&[255; 4 * 64 * 64], ExtendedColorType::Rgba8, (64, 64));
    assert_eq!(scan(&opaque).unwrap().decode_mask().err(), Some(InvalidMask::Opaque));
}

#[test]
fn the_right_way_up_is_what_the_file_says() {
    let flagged = vp8x(1 << 3, 96, 64);
    for orientation in [1, 3, 6, 8] {
        let block = exif(orientation);
        let jpeg = [b"Exif\0\0", &block[..]].concat();
        for file in [
            with_chunk(b"eXIf", &block),
            with_marker(0xe1, &jpeg),
            riff(&[(b"VP8X", &flagged), (b"VP8L", &vp8l()), (b"EXIF", &block)]),
        ] {
            let expected = if orientation >= 5 { [64, 96] } else { [96, 64] };
            let scanned = scan(&file).unwrap();
            assert_eq!(scanned.read_px(), expected);
            let decoded = scanned.decode().unwrap();
            // The corner that was at the upper left.
            let rgb = rgb(&decoded);
            let [width, height] = decoded.image.read_px();
            let corner = match orientation {
                1 => 0,
                3 => width * height - 1,
                6 => width - 1,
                _ => (height - 1) * width,
            };
            let pixel = &rgb[3 * corner..3 * corner + 3];
            assert!(pixel.iter().all(|value| *value < 12), "{orientation}: {pixel:?}");
        }
    }
    // What says nothing, or nonsense, is no reason to refuse.
    for block in [vec![], exif(0), exif(99), b"II\x2a\0\xff\xff\xff\xff".to_vec()] {
        assert_eq!(scan(&with_chunk(b"eXIf", &block)).unwrap().read_px(), [96, 64]);
    }
}

#[test]
fn each_refusal_has_its_name() {
    use InvalidInputImage::{
        Animated, Aspect, Cmyk, Damaged, Empty, Pixels, RareJpeg, Side, Truncated, UnknownFormat,
    };
    let canvas = vp8x(0, 96, 64);
    let refused = |file: &[u8]| decode(file).err().expect("must be refused");
    for (file, expected) in [
        (vec![], Empty),
        (b"a red fox".to_vec(), UnknownFormat),
        (b"GIF89a\x40\0\x40\0".to_vec(), UnknownFormat),
        (b"RIFF\x24\0\0\0WAVEfmt ".to_vec(), UnknownFormat),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), UnknownFormat),
        (png::SIGNATURE.to_vec(), Truncated),
        (b"\xff\xd8\xff".to_vec(), Truncated),
        (b"RIFF".to_vec(), Truncated),
        (with_chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]), Animated),
        (riff(&[(b"VP8X", &vp8x(2, 96, 64)), (b"ANIM", &[0; 6])]), Animated),
        (riff(&[(b"VP8X", &canvas), (b"ANMF", &[0; 24])]), Animated),
        (with_frame(|frame| frame[9] = 4), Cmyk),
        (with_frame(|frame| frame[4] = 12), RareJpeg),
        (with_frame(|frame| frame[1] = 0xc3), RareJpeg),
        (with_frame(|frame| frame[1] = 0xc9), RareJpeg),
        (with_frame(|frame| frame[9] = 2), Damaged),
        (with_chunk(b"IHDR", &[0; 13]), Damaged),
        ([&png::SIGNATURE[..], &chunk(b"IEND", b"")].concat(), Damaged),
        (riff(&[(b"VP8X", &canvas)]), Damaged),
        (riff(&[]), Damaged),
        // The canvas says one size, the image within another: decoders make room for the latter.
        (riff(&[(b"VP8X", &vp8x(0, 64, 64)), (b"VP8L", &vp8l())]), Damaged),
        (riff(&[(b"VP8X", &canvas), (b"VP8 ", b"\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f")]), Damaged),
        // Pixels that are not there.
        (header(64, 64, 8, 2), Damaged),
    ] {
        let found = refused(&file);
        assert_eq!(found, expected, "{}", file[..file.len().min(60)].escape_ascii());
    }
    let sides = |file: &[u8]| match refused(file) {
        Side { width_px, height_px, min_px: 64, max_px: 16_384 } => [width_px, height_px],
        other => panic!("{other:?}"),
    };
    assert_eq!(sides(&header(0, 64, 8, 2)), [0, 64]);
    assert_eq!(sides(&header(63, 64, 8, 2)), [63, 64]);
    assert_eq!(sides(&with_frame(|frame| frame[5..9].fill(0))), [0, 0]);
    assert_eq!(sides(&header(20_000, 70, 8, 2)), [20_000, 70]);
    // Bombs: headers that promise more than is decoded.
    for file in [
        header(u32::MAX, u32::MAX, 16, 6),
        header(10_000, 5_001, 1, 0),
        with_frame(|frame| frame[5..9].fill(0xff)),
        riff(&[(b"VP8L", b"\x2f\xff\xff\xff\x0f")]),
        riff(&[(b"VP8 ", b"\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f")]),
    ] {
        assert!(matches!(refused(&file), Pixels { max_pixels: MAX_PIXELS, .. }));
    }
    assert!(matches!(refused(&header(1_000, 100, 8, 2)), Aspect { max: 8, .. }));
}

#[test]
fn a_jpeg_that_is_refined_again_and_again_is_refused() {
    let file = gradient_jpeg();
    let at = file.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let mut again = file[..file.len() - 2].to_vec();
    for _ in 0..MAX {
        again.extend(&file[at..file.len() - 2]);
    }
    again.extend([0xff, 0xd9]);
    const MAX: usize = 32;
    let refused = scan(&again).err();
    assert_eq!(refused, Some(InvalidInputImage::Scans { found: MAX + 1, most: MAX }));
}

/// Wherever a file is cut, it is said to be cut, or at least not taken.
#[test]
fn what_is_cut_off_is_refused() {
    for file in [gradient_png(), gradient_jpeg(), gradient_webp()] {
        for end in (0..file.len()).step_by(7).chain(file.len() - 13..file.len()) {
            let refused = scan(&file[..end]).err();
            let signature = end < 12;
            assert!(
                refused == Some(InvalidInputImage::Truncated) || signature && refused.is_some(),
                "{end} of {}: {refused:?}",
                file.len()
            );
        }
        // What comes after the end is nobody's.
        let longer = [&file[..], b"more, as some cameras write"].concat();
        assert!(decode(&longer).is_ok());
    }
}

/// Names a size that it has, and a profile that grows a thousandfold.
#[test]
fn a_profile_that_grows_costs_no_memory() {
    // 1 MiB of zeros in stored blocks would be 1 MiB: here as deflate's longest repeats.
    let mut deflated = vec![0x78, 0x9c, 0xed, 0xc1, 0x01, 0x01, 0x00, 0x00, 0x00, 0x80, 0x90];
    deflated.extend(vec![0; 4000]);
    let profile = [b"name\0\0", &deflated[..]].concat();
    let _ = decode(&with_chunk(b"iCCP", &profile));
}
