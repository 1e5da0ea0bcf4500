//! From what a client wrote to what the engine can be given, once.

use crate::{
    Count, CreateImageRequest, Delivery, Format, Guidance, GuidanceUse, InvalidParameter,
    InvalidSize, ModelCapabilities, Operation, Prompt, ProvenanceWish, Quality, ResponseFormat,
    SecretString, Seed, Size, Steps,
};

/// A request that keeps every rule. Nothing behind it checks again.
pub struct ImageRequest {
    /// Whether input images come with it.
    pub operation: Operation,
    /// The model's name, one that this node serves.
    pub model: String,
    /// What to draw; the style's suffix is part of it.
    pub prompt: Prompt,
    /// How many images.
    pub count: Count,
    /// Of which size, within the node's bounds.
    pub size: Size,
    /// Sampler steps.
    pub steps: Steps,
    /// The first image's seed.
    pub seed: Seed,
    /// Whether the prompt was added to.
    pub style: Style,
    /// How much work goes into an image; `steps` may say otherwise.
    pub quality: Quality,
    /// The guidance scale, where the client named one and the model takes it.
    pub guidance: Option<Guidance>,
    /// The images' file format.
    pub format: Format,
    /// How the images are to be told back.
    pub response_format: ResponseFormat,
    /// All at once, or as events.
    pub delivery: Delivery,
    /// Whether something of an input image was transparent; whoever decodes them says so.
    pub has_transparent_input: bool,
    /// SHA-256 of each input image's file, in their order.
    pub input_digests: Vec<[u8; 32]>,
    /// SHA-256 of the mask's file.
    pub mask_digest: Option<[u8; 32]>,
    /// What is to be said of where the images are from.
    pub provenance: ProvenanceWish,
}

impl ImageRequest {
    /// Checks the request for a generation against what the node offers. `draw_seed` is asked only
    /// where the client gave no seed.
    ///
    /// # Errors
    /// Names the first field that breaks a rule.
    pub fn parse(
        request: CreateImageRequest,
        capabilities: &ModelCapabilities,
        draw_seed: impl FnOnce() -> Seed,
    ) -> Result<Self, InvalidParameter> {
        request.check_is_generation()?;
        let size = capabilities.native_size;
        Self::parse_operation(request, (Operation::Generation, size), capabilities, draw_seed)
    }

    /// The same for an edit, whose files were taken out of it. `first_px` are width and height of the first input
    /// image as it is read: where no size is asked for, the image is as large, within the node's bounds.
    ///
    /// # Errors
    /// As [`ImageRequest::parse`].
    pub fn parse_edit(
        request: CreateImageRequest,
        first_px: [u32; 2],
        capabilities: &ModelCapabilities,
        draw_seed: impl FnOnce() -> Seed,
    ) -> Result<Self, InvalidParameter> {
        check_fidelity(&request)?;
        let size = capabilities.limits.nearest_size(first_px);
        Self::parse_operation(request, (Operation::Edit, size), capabilities, draw_seed)
    }

    /// The same for an edit under a mask: the image is as large as the first input image is read, since what is kept of
    /// that stays where it is. Another size is refused, and so is an image that is larger than the node's bounds.
    ///
    /// # Errors
    /// As [`ImageRequest::parse`].
    pub fn parse_masked_edit(
        request: CreateImageRequest,
        [width_px, height_px]: [u32; 2],
        capabilities: &ModelCapabilities,
        draw_seed: impl FnOnce() -> Seed,
    ) -> Result<Self, InvalidParameter> {
        check_fidelity(&request)?;
        let size = Size::new(width_px, height_px).map_err(InvalidParameter::Size)?;
        let parsed =
            Self::parse_operation(request, (Operation::Edit, size), capabilities, draw_seed)?;
        match parsed.size == size {
            true => Ok(parsed),
            false => Err(InvalidParameter::MaskedSize { size }),
        }
    }

    fn parse_operation(
        request: CreateImageRequest,
        (operation, auto_size): (Operation, Size),
        capabilities: &ModelCapabilities,
        draw_seed: impl FnOnce() -> Seed,
    ) -> Result<Self, InvalidParameter> {
        let model = request.model.ok_or(InvalidParameter::Missing { param: "model" })?;
        if model != capabilities.model {
            return Err(InvalidParameter::UnknownModel { served: capabilities.model.clone() });
        }
        let prompt = request.prompt.ok_or(InvalidParameter::Missing { param: "prompt" })?;
        let prompt = Prompt::with_limit(prompt, capabilities.limits.max_prompt_chars)
            .map_err(InvalidParameter::Prompt)?;
        let count = request.n.map_or(Ok(Count::ONE), Count::new);
        let count = count.map_err(|range| InvalidParameter::OutOfRange { param: "n", range })?;
        let size = match request.size.as_deref() {
            None | Some("auto") => auto_size,
            Some(text) => text.parse().map_err(InvalidParameter::Size)?,
        };
        capabilities.limits.check(size, count)?;
        let quality = Quality::parse(request.quality.as_deref())?;
        let steps = request.steps.map_or(Ok(quality.into()), Steps::new);
        let steps =
            steps.map_err(|range| InvalidParameter::OutOfRange { param: "steps", range })?;
        let response_format = match request.response_format.as_deref() {
            None => ResponseFormat::Unsaid,
            Some("url") => ResponseFormat::Url,
            Some("b64_json") => ResponseFormat::B64Json,
            Some(_) => return Err(choice("response_format", "url, b64_json")),
        };
        let (style, prompt) = match request.style.as_deref() {
            None | Some("natural") => (Style::Natural, prompt),
            Some("vivid") => (Style::Vivid, prompt.vivid()),
            Some(_) => return Err(choice("style", "natural, vivid")),
        };
        let format = Format::parse(request.output_format.as_deref(), request.output_compression)?;
        let delivery = Delivery::parse(
            request.stream,
            request.partial_images,
            request.progress,
            response_format,
        )?;
        let guidance = match (request.guidance, capabilities.guidance) {
            (None, _) => None,
            (Some(scale), GuidanceUse::Reads) => Some(Guidance::new(scale)?),
            (Some(_), GuidanceUse::Ignores) => {
                return Err(InvalidParameter::Unsupported { param: "guidance" });
            }
        };
        match request.background.as_deref() {
            None | Some("auto" | "opaque") => {}
            Some(_) => return Err(choice("background", "auto, opaque")),
        }
        match request.moderation.as_deref() {
            None | Some("auto" | "low") => {}
            Some(_) => return Err(choice("moderation", "auto, low")),
        }
        // Programs that always send the field leave it empty.
        if request.negative_prompt.as_ref().is_some_and(|prompt| !prompt.is_empty()) {
            return Err(InvalidParameter::Unsupported { param: "negative_prompt" });
        }
        let provenance =
            ProvenanceWish::parse(request.provenance.as_deref(), request.provenance_salt.as_ref())?;
        let seed = request.seed.map_or_else(draw_seed, Seed::new);
        Ok(Self {
            operation,
            model,
            prompt,
            count,
            size,
            steps,
            seed,
            style,
            quality,
            guidance,
            format,
            response_format,
            delivery,
            has_transparent_input: false,
            input_digests: Vec::new(),
            mask_digest: None,
            provenance,
        })
    }

    /// n × width × height: the protocol's compute units.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        self.count.get() as u64 * self.size.pixels()
    }

    /// Latent patches of all images: the protocol's completion tokens.
    #[must_use]
    pub fn latent_patches(&self) -> u64 {
        self.count.get() as u64 * self.size.latent_patches()
    }

    /// The prompt as it is drawn, where it is not the prompt as it was sent.
    #[must_use]
    pub fn revised_prompt(&self) -> Option<SecretString> {
        match self.style {
            Style::Natural => None,
            Style::Vivid => Some(self.prompt.expose().to_owned().into()),
        }
    }
}

/// What is added to a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Nothing. The default: a prompt is drawn as it was written.
    Natural,
    /// [`crate::VIVID_SUFFIX`].
    Vivid,
}

fn check_fidelity(request: &CreateImageRequest) -> Result<(), InvalidParameter> {
    match request.input_fidelity.as_deref() {
        None | Some("high" | "low") => Ok(()),
        Some(_) => Err(choice("input_fidelity", "high, low")),
    }
}

fn choice(param: &'static str, choices: &'static str) -> InvalidParameter {
    InvalidParameter::Choice { param, choices }
}

impl From<InvalidSize> for InvalidParameter {
    fn from(error: InvalidSize) -> Self {
        Self::Size(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InvalidRequest, Limits};

    fn capabilities() -> ModelCapabilities {
        ModelCapabilities {
            model: "obscura/demo".to_owned(),
            native_size: Size::new(256, 256).unwrap(),
            guidance: GuidanceUse::Ignores,
            max_input_images: 0,
            limits: Limits {
                max_pixels: 512 * 512,
                max_total_pixels: 4 * 512 * 512,
                max_prompt_chars: 1000,
            },
        }
    }

    fn parse(body: &str) -> Result<ImageRequest, InvalidParameter> {
        let request = match CreateImageRequest::from_json(body.as_bytes()) {
            Ok(request) => request,
            Err(InvalidRequest::Parameter(invalid)) => return Err(invalid),
            Err(InvalidRequest::NotAnObject) => panic!("an object"),
        };
        ImageRequest::parse(request, &capabilities(), || Seed::new(9))
    }

    fn blame(fields: &str) -> InvalidParameter {
        let body = format!(r#"{{"model": "obscura/demo", "prompt": "a cat"{fields}}}"#);
        parse(&body).err().expect("must be refused")
    }

    #[test]
    fn a_minimal_request_gets_the_defaults() {
        let request = parse(r#"{"model": "obscura/demo", "prompt": "a cat"}"#).ok().unwrap();
        assert_eq!(request.count, Count::ONE);
        assert_eq!(request.size.to_string(), "256x256");
        assert_eq!(request.steps, Steps::STANDARD);
        assert_eq!(request.seed, Seed::new(9));
        assert_eq!(request.pixels(), 65536);
        assert!(request.revised_prompt().is_none());
    }

    #[test]
    fn every_field_is_honoured() {
        let request = parse(
            r#"{"model": "obscura/demo", "prompt": "a cat", "n": 2, "size": "512x256",
                "quality": "hd", "style": "vivid", "response_format": "b64_json", "seed": 7,
                "output_format": "jpeg", "output_compression": 50, "background": "opaque",
                "moderation": "low", "user": "u", "safety_identifier": "s", "stream": true,
                "partial_images": 2, "progress": true}"#,
        );
        let request = request.ok().unwrap();
        assert_eq!((request.count.get(), request.steps, request.seed.get()), (2, Steps::HD, 7));
        assert_eq!(request.response_format, ResponseFormat::B64Json);
        assert_eq!(request.pixels(), 2 * 512 * 256);
        assert_eq!(request.format, Format::Jpeg { quality: 50 });
        assert_eq!(request.delivery, Delivery::Stream { partial_images: 2, progress: true });
        assert_eq!(
            request.revised_prompt().unwrap().as_str(),
            format!("a cat{}", crate::VIVID_SUFFIX)
        );
    }

    #[test]
    fn an_edit_is_as_large_as_its_first_image() {
        let edit = |fields: &str| {
            let body = format!(r#"{{"model": "obscura/demo", "prompt": "x"{fields}}}"#);
            let request = CreateImageRequest::from_json(body.as_bytes()).ok().unwrap();
            ImageRequest::parse_edit(request, [96, 64], &capabilities(), || Seed::new(9))
        };
        assert_eq!(edit("").ok().unwrap().size.to_string(), "96x64");
        assert_eq!(edit(r#", "size": "auto""#).ok().unwrap().size.to_string(), "96x64");
        let asked = edit(r#", "size": "128x64", "input_fidelity": "low""#).ok().unwrap();
        assert_eq!((asked.size.to_string(), asked.operation), ("128x64".into(), Operation::Edit));
        let refused = edit(r#", "input_fidelity": "most""#).err().unwrap();
        assert_eq!(refused.param(), Some("input_fidelity"));
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (fields, param) in [
            (r#", "n": 0"#, "n"),
            (r#", "n": 11"#, "n"),
            (r#", "n": -1"#, "n"),
            (r#", "n": 10, "size": "512x512""#, "n"),
            (r#", "size": "0x0""#, "size"),
            (r#", "size": "100x100""#, "size"),
            (r#", "size": "99999x99999""#, "size"),
            (r#", "size": "1024""#, "size"),
            (r#", "size": "1024x1024""#, "size"),
            (r#", "quality": "best""#, "quality"),
            (r#", "style": """#, "style"),
            (r#", "response_format": "png""#, "response_format"),
            (r#", "steps": 0"#, "steps"),
            (r#", "steps": 51"#, "steps"),
            (r#", "size": "512x160""#, "size"),
            (r#", "output_format": "gif""#, "output_format"),
            (r#", "output_compression": 101, "output_format": "jpeg""#, "output_compression"),
            (r#", "output_compression": 50"#, "output_compression"),
            (r#", "output_compression": 50, "output_format": "webp""#, "output_compression"),
            (r#", "background": "transparent""#, "background"),
            (r#", "moderation": "high""#, "moderation"),
            (r#", "stream": true, "partial_images": 4"#, "partial_images"),
            (r#", "partial_images": 1"#, "partial_images"),
            (r#", "progress": true"#, "progress"),
            (r#", "progress": true, "stream": false"#, "progress"),
            (r#", "stream": true, "response_format": "url""#, "response_format"),
            (r#", "guidance": 3.5"#, "guidance"),
            (r#", "negative_prompt": "blurry""#, "negative_prompt"),
            (r#", "images": ["data:;base64,AAEC"]"#, "images"),
            (r#", "mask": {"image_url": "x"}"#, "mask"),
            (r#", "input_fidelity": "high""#, "input_fidelity"),
            (r#", "provenance": "iptc""#, "provenance"),
            (r#", "provenance": "receipt", "provenance_salt": "00""#, "provenance_salt"),
        ] {
            assert_eq!(blame(fields).param(), Some(param), "{fields}");
        }
        assert!(parse(r#"{"model": "obscura/demo", "prompt": "x", "size": "480x160"}"#).is_ok());
        // As programs write it that have none.
        let empty = r#"{"model": "obscura/demo", "prompt": "x", "negative_prompt": ""}"#;
        assert!(parse(empty).is_ok());
        assert_eq!(parse(r#"{"prompt": "x"}"#).err().unwrap().param(), Some("model"));
        assert_eq!(parse(r#"{"model": "obscura/demo"}"#).err().unwrap().param(), Some("prompt"));
        assert_eq!(
            parse(r#"{"model": "other", "prompt": "x"}"#).err(),
            Some(InvalidParameter::UnknownModel { served: "obscura/demo".to_owned() })
        );
    }
}
