//! Files of input images, out of a request.

use crate::{
    CreateImageRequest, InputReference, InvalidInputImage, InvalidParameter, MAX_INPUT_FILES_BYTES,
    SecretBytes, input::InvalidInput,
};

/// What an edit is made from.
pub struct InputFiles {
    /// The images' files, at least one, in their order.
    pub images: Vec<SecretBytes>,
    /// The first image's mask.
    pub mask: Option<SecretBytes>,
}

impl CreateImageRequest {
    /// Takes the files of the input images and of the mask out.
    ///
    /// # Errors
    /// Where there is no image or more than `most`, more bytes than [`MAX_INPUT_FILES_BYTES`] in all, or something that
    /// is no `data:` URL.
    pub fn take_input_files(&mut self, most: usize) -> Result<InputFiles, InvalidParameter> {
        let references = self.images.take().unwrap_or_default();
        if references.is_empty() {
            return Err(InvalidParameter::Missing { param: "images" });
        }
        if references.len() > most {
            return Err(InvalidParameter::TooManyInputImages { most });
        }
        let mut room = MAX_INPUT_FILES_BYTES;
        let mut images = Vec::with_capacity(references.len());
        for (index, reference) in references.into_iter().enumerate() {
            let blame = |reason| InvalidParameter::InputImage { index, reason };
            images.push(take(reference, &mut room, blame)?);
        }
        let blame = |reason: InvalidInputImage| InvalidParameter::Mask { reason: reason.into() };
        let mask = self.mask.take().map(|mask| take(mask, &mut room, blame)).transpose()?;
        Ok(InputFiles { images, mask })
    }
}

fn take(
    reference: InputReference,
    room: &mut usize,
    blame: impl FnOnce(InvalidInputImage) -> InvalidParameter,
) -> Result<SecretBytes, InvalidParameter> {
    let file = reference.into_file(*room).map_err(|invalid| match invalid {
        InvalidInput::Image(reason) => blame(reason),
        InvalidInput::TooLong => InvalidParameter::InputBytes { max_bytes: MAX_INPUT_FILES_BYTES },
    })?;
    *room -= file.len();
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InvalidMask, MAX_INPUT_IMAGES};

    fn read(images: &str) -> Result<Vec<SecretBytes>, InvalidParameter> {
        let body = format!(r#"{{"images": {images}}}"#);
        match CreateImageRequest::from_json(body.as_bytes()) {
            Ok(mut request) => request.take_input_files(MAX_INPUT_IMAGES).map(|files| files.images),
            Err(crate::InvalidRequest::Parameter(invalid)) => Err(invalid),
            Err(crate::InvalidRequest::NotAnObject) => panic!("an object"),
        }
    }

    #[test]
    fn both_forms_of_a_reference_are_read_in_their_order() {
        let files = read(
            r#"["data:image/png;base64,AAEC", {"image_url": "DATA:image/webp;x=y;BASE64,AwQ=", "file_id": null},
                {"detail": [{}], "image_url": "data:;base64,"}]"#,
        );
        let files: Vec<Vec<u8>> = files.ok().unwrap().iter().map(|file| file.to_vec()).collect();
        assert_eq!(files, [vec![0, 1, 2], vec![3, 4], vec![]]);
    }

    #[test]
    fn what_is_written_is_read() {
        let file: Vec<u8> = (0..100_u8).collect();
        let images = Some(vec![InputReference::file(file.clone().into())]);
        let request = CreateImageRequest { images, ..CreateImageRequest::default() };
        let json = request.to_json();
        let head = br#"{"images":[{"image_url":"data:image/png;base64,AAEC"#;
        assert!(json.starts_with(head), "{}", json.escape_ascii());
        let mut back = CreateImageRequest::from_json(&json).ok().unwrap();
        assert_eq!(*back.take_input_files(1).ok().unwrap().images[0], file);
        // Without a way over base64 too.
        let mut request = request;
        assert_eq!(*request.take_input_files(1).ok().unwrap().images[0], file);
    }

    #[test]
    fn each_slip_has_its_name() {
        use InvalidInputImage::{FileId, NoUrl, NotBase64, Remote};
        for (image, reason) in [
            (r#""""#, NoUrl),
            (r#""a.png""#, NoUrl),
            ("{}", NoUrl),
            (r#"{"image_url": null}"#, NoUrl),
            (r#""data:image/png;base64""#, NoUrl),
            (r#""https://host/a.png""#, Remote),
            (r#"{"image_url": "HTTP://host"}"#, Remote),
            (r#"{"file_id": "file-1"}"#, FileId),
            (r#""data:image/png,AAEC""#, NotBase64),
            (r#""data:image/png;base64,AAE""#, NotBase64),
            (r#""data:image/png;base64,AA EC""#, NotBase64),
        ] {
            let images = format!(r#"["data:;base64,AAEC", {image}]"#);
            let expected = InvalidParameter::InputImage { index: 1, reason };
            assert_eq!(read(&images).err(), Some(expected), "{image}");
        }
        for images in ["7", "{}", "[7]", "[null]", r#"[{"image_url": 7}]"#, r#"["a", ["b"]]"#] {
            assert_eq!(
                read(images).err(),
                Some(InvalidParameter::Type { param: "images" }),
                "{images}"
            );
        }
        for images in ["null", "[]"] {
            assert_eq!(read(images).err(), Some(InvalidParameter::Missing { param: "images" }));
        }
    }

    #[test]
    fn their_number_and_their_bytes_are_bounded() {
        let many = format!("[{}]", [r#""data:;base64,AAEC""#; 11].join(","));
        assert_eq!(read(&many).err(), Some(InvalidParameter::TooManyInputImages { most: 4 }));
        let long = "A".repeat(MAX_INPUT_FILES_BYTES / 6 * 4);
        let two =
            |more: &str| read(&format!(r#"["data:;base64,{long}", "data:;base64,{long}{more}"]"#));
        assert!(two("").is_ok());
        let most = InvalidParameter::InputBytes { max_bytes: MAX_INPUT_FILES_BYTES };
        assert_eq!(two("AAAA").err(), Some(most));
    }

    #[test]
    fn a_mask_is_a_file_like_the_images() {
        let of = |mask: &str| {
            let body = format!(r#"{{"images": ["data:;base64,AAEC"], "mask": {mask}}}"#);
            CreateImageRequest::from_json(body.as_bytes()).ok().unwrap().take_input_files(4)
        };
        for mask in [r#"{"image_url": "data:;base64,AwQ="}"#, r#""data:image/png;base64,AwQ=""#] {
            let files = of(mask).ok().unwrap();
            assert_eq!((files.images.len(), files.mask.as_deref()), (1, Some(&vec![3, 4])));
        }
        assert!(of("null").ok().unwrap().mask.is_none());
        for (mask, reason) in [
            (r#"{"file_id": "file-1"}"#, InvalidInputImage::FileId),
            (r#""https://host/mask.png""#, InvalidInputImage::Remote),
        ] {
            let refused = InvalidParameter::Mask { reason: InvalidMask::File(reason) };
            assert_eq!(of(mask).err(), Some(refused));
        }
        let long = format!(r#""data:;base64,{}""#, "A".repeat(MAX_INPUT_FILES_BYTES / 3 * 4 + 4));
        assert_eq!(of(&long).err().unwrap().param(), Some("images"));
        // Nothing is drawn under a mask alone.
        let body = br#"{"mask": {"image_url": "data:;base64,AAEC"}}"#;
        let refused = CreateImageRequest::from_json(body).ok().unwrap().take_input_files(4).err();
        assert_eq!(refused, Some(InvalidParameter::Missing { param: "images" }));
    }
}
