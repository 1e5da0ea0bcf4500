//! Manifests in files, and what becomes of them.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};

use super::{container::Container, *};
use crate::{ProvenanceError, tests::statement};

fn file(format: ImageFormat) -> Vec<u8> {
    let pixels = RgbImage::from_fn(48, 32, |x, y| image::Rgb([x as u8 * 5, y as u8 * 7, 90]));
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(pixels).write_to(&mut file, format).unwrap();
    file.into_inner()
}

const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];

fn judge(file: &[u8]) -> Result<[u8; 32], ProvenanceError> {
    let manifest = Manifest::read(file)?;
    manifest.check_bytes(file)?;
    manifest.check_signature()?;
    assert_eq!(manifest.statement, statement());
    Ok(manifest.signer_spki_sha256)
}

#[test]
fn a_manifest_is_read_as_it_was_written_and_the_pixels_stay() {
    let signer = ManifestSigner::generate().unwrap();
    for format in FORMATS {
        let plain = file(format);
        assert_eq!(judge(&plain), Err(ProvenanceError::NoManifest));
        let signed = embed(&plain, &statement(), &signer).unwrap();
        assert_eq!(judge(&signed).as_ref(), Ok(signer.spki_sha256()));
        assert_eq!(signed.capacity(), signed.len());
        assert!(signed.len() - plain.len() < MAX_MANIFEST_BYTES);
        let pixels = |file: &[u8]| image::load_from_memory_with_format(file, format).unwrap();
        assert_eq!(pixels(&signed), pixels(&plain));
        assert!(matches!(
            embed(&signed, &statement(), &signer),
            Err(ProvenanceError::Foreign { .. })
        ));
    }
}

/// Of even length, whatever the length of the certificate.
#[test]
fn every_key_signs() {
    for _ in 0..12 {
        let signer = ManifestSigner::generate().unwrap();
        let signed = embed(&file(ImageFormat::WebP), &statement(), &signer).unwrap();
        let found = Container::WebP.find(&signed).unwrap();
        assert_eq!((found.manifest.len() % 2, found.manifest.len() + 8), (0, found.range.len()));
        assert_eq!(judge(&signed).as_ref(), Ok(signer.spki_sha256()));
    }
}

#[test]
fn no_byte_may_change() {
    let signer = ManifestSigner::generate().unwrap();
    for format in FORMATS {
        let plain = file(format);
        let signed = embed(&plain, &statement(), &signer).unwrap();
        for place in 0..signed.len() {
            let mut changed = signed.clone();
            changed[place] ^= 0x20;
            assert!(judge(&changed).is_err(), "{format:?} byte {place}");
        }
        // Cut off anywhere; of what is longer than a manifest, not at every byte.
        for end in (0..signed.len()).step_by(7) {
            assert!(judge(&signed[..end]).is_err(), "{format:?} cut at {end}");
        }
        assert!(judge(&[&signed[..], b"more"].concat()).is_err());
    }
}

#[test]
fn a_manifest_of_another_image_is_refused() {
    let signer = ManifestSigner::generate().unwrap();
    for format in FORMATS {
        let one = embed(&file(format), &statement(), &signer).unwrap();
        let mut other = file(format);
        // In the pixels, or in what codes them.
        let middle = other.len() - 40;
        other[middle] ^= 1;
        let container = Container::of(&one).unwrap();
        let found = container.find(&one).unwrap();
        let place = container.place(&other).unwrap();
        let wrapped = container.wrap(found.manifest);
        let head = container.head(&other, place, wrapped.len());
        let moved = [&head, &wrapped, &other[place..]].concat();
        assert_eq!(judge(&moved), Err(ProvenanceError::OtherBytes { what: "the image" }));
    }
}

#[test]
fn a_stranger_signs_as_a_stranger() {
    let [node, stranger] = [(); 2].map(|()| ManifestSigner::generate().unwrap());
    let signed = embed(&file(ImageFormat::Png), &statement(), &stranger).unwrap();
    assert_ne!(judge(&signed).unwrap(), *node.spki_sha256());
}

#[test]
fn two_manifests_are_too_many() {
    let signer = ManifestSigner::generate().unwrap();
    for format in FORMATS {
        let signed = embed(&file(format), &statement(), &signer).unwrap();
        let container = Container::of(&signed).unwrap();
        let range = container.find(&signed).unwrap().range;
        let twice = [&signed[..range.end], &signed[range.clone()], &signed[range.end..]].concat();
        assert!(matches!(judge(&twice), Err(ProvenanceError::Foreign { .. })), "{format:?}");
    }
}
