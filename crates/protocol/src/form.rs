//! A request as the fields of a form, which is how OpenAI's clients send an edit.

use crate::{CreateImageRequest, InputReference, InvalidParameter, MAX_INPUT_IMAGES, SecretString};

/// A field of a form.
pub struct FormField<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it holds: a text, or a file.
    pub value: &'a [u8],
}

impl CreateImageRequest {
    /// Reads a form: `image` or `image[]` and `mask` are files, everything else is a text. Fields nobody knows are
    /// accepted, as in JSON.
    ///
    /// # Errors
    /// Names the field that is no text, no number or neither `true` nor `false` where it should be.
    pub fn from_form<'a>(
        fields: impl Iterator<Item = FormField<'a>>,
    ) -> Result<Self, InvalidParameter> {
        let mut request = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for FormField { name, value } in fields {
            match name {
                "image" | "image[]" => {
                    let images = request.images.get_or_insert_default();
                    // One more than may be shows that they are too many.
                    if images.len() <= MAX_INPUT_IMAGES {
                        images.push(InputReference::file(value.to_vec().into()));
                    }
                }
                "mask" => {
                    let mask = InputReference::file(value.to_vec().into());
                    if request.mask.replace(mask).is_some() {
                        return Err(InvalidParameter::Duplicate { param: "mask" });
                    }
                }
                name => {
                    if let Some(param) = request.set(name, value)? {
                        if seen.contains(&param) {
                            return Err(InvalidParameter::Duplicate { param });
                        }
                        seen.push(param);
                    }
                }
            }
        }
        Ok(request)
    }

    /// Sets a field, and gives its name where it is known.
    fn set(&mut self, name: &str, value: &[u8]) -> Result<Option<&'static str>, InvalidParameter> {
        let Some(param) = Self::FIELDS.into_iter().find(|known| *known == name) else {
            return Ok(None);
        };
        let wrong = InvalidParameter::Type { param };
        let Ok(text) = str::from_utf8(value) else { return Err(wrong) };
        let plain = || Some(text.to_owned());
        let secret = || Some(SecretString::from(text.to_owned()));
        let trimmed = text.trim();
        let number = || trimmed.parse().map(Some).map_err(|_| wrong.clone());
        let flag = || match trimmed {
            "true" | "True" | "1" => Ok(Some(true)),
            "false" | "False" | "0" => Ok(Some(false)),
            _ => Err(wrong.clone()),
        };
        match param {
            "model" => self.model = plain(),
            "prompt" => self.prompt = secret(),
            "n" => self.n = number()?,
            "size" => self.size = plain(),
            "quality" => self.quality = plain(),
            "response_format" => self.response_format = plain(),
            "style" => self.style = plain(),
            "user" => self.user = secret(),
            "safety_identifier" => self.safety_identifier = secret(),
            "output_format" => self.output_format = plain(),
            "output_compression" => self.output_compression = number()?,
            "background" => self.background = plain(),
            "moderation" => self.moderation = plain(),
            "stream" => self.stream = flag()?,
            "partial_images" => self.partial_images = number()?,
            "seed" if trimmed == "-1" => self.seed = None,
            "seed" => self.seed = Some(trimmed.parse().map_err(|_| wrong)?),
            "steps" => self.steps = number()?,
            "guidance" => self.guidance = Some(trimmed.parse().map_err(|_| wrong)?),
            "progress" => self.progress = flag()?,
            "input_fidelity" => self.input_fidelity = plain(),
            "negative_prompt" => self.negative_prompt = secret(),
            "provenance" => self.provenance = plain(),
            "provenance_salt" => self.provenance_salt = secret(),
            "padding" => {}
            // `images` is the name in JSON; a text is no image.
            _ => return Err(wrong),
        }
        Ok(Some(param))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InputFiles;

    fn read(fields: &[(&str, &[u8])]) -> Result<CreateImageRequest, InvalidParameter> {
        CreateImageRequest::from_form(fields.iter().map(|(name, value)| FormField { name, value }))
    }

    #[test]
    fn a_form_is_read_as_json_is() {
        let mut request = read(&[
            ("model", b"m"),
            ("prompt", "a \"fox\" \u{1f98a}".as_bytes()),
            ("image[]", &[1, 2]),
            ("n", b"2"),
            ("stream", b"true"),
            ("seed", b"18446744073709551615"),
            ("guidance", b"3.5"),
            ("image", &[3]),
            ("mask", &[4]),
            ("whatever", &[0xff]),
        ])
        .ok()
        .unwrap();
        let InputFiles { images, mask } = request.take_input_files(4).ok().unwrap();
        assert_eq!([&images[0][..], &images[1][..]], [&[1_u8, 2][..], &[3]]);
        assert_eq!(mask.as_deref().map(Vec::as_slice), Some(&[4_u8][..]));
        assert_eq!(
            (request.n, request.stream, request.seed),
            (Some(2), Some(true), Some(u64::MAX))
        );
        assert_eq!(request.guidance, Some(3.5));
        let json = request.to_json();
        let back = CreateImageRequest::from_json(&json).ok().unwrap();
        assert_eq!(back.prompt.unwrap().as_str(), "a \"fox\" \u{1f98a}");
        assert!(read(&[("seed", b"-1")]).ok().unwrap().seed.is_none());
    }

    #[test]
    fn each_slip_has_its_name() {
        for (name, value) in [
            ("prompt", &[0xff][..]),
            ("n", b"two"),
            ("n", b""),
            ("n", b"99999999999999999999"),
            ("stream", b"yes"),
            ("seed", b"-2"),
            ("guidance", b"much"),
            ("images", b"data:"),
        ] {
            let refused = read(&[(name, value)]).err().unwrap();
            assert_eq!(refused.param(), Some(name));
        }
        let twice = read(&[("n", b"1"), ("n", b"1")]).err();
        assert_eq!(twice, Some(InvalidParameter::Duplicate { param: "n" }));
        let mut many = read(&[("image", &[1][..]); 11]).ok().unwrap();
        let refused = many.take_input_files(4).err();
        assert_eq!(refused, Some(InvalidParameter::TooManyInputImages { most: 4 }));
        let masks = read(&[("image", &[1][..]), ("mask", &[2]), ("mask", &[2])]).err();
        assert_eq!(masks, Some(InvalidParameter::Duplicate { param: "mask" }));
    }

    /// Every field that JSON has, a form has.
    #[test]
    fn no_field_is_forgotten() {
        for field in CreateImageRequest::FIELDS {
            let value = match field {
                "stream" | "progress" => "true",
                _ => "1",
            };
            let known = read(&[(field, value.as_bytes())]).is_ok();
            assert_eq!(known, !["images"].contains(&field), "{field}");
        }
    }
}
