//! From what a client wrote to what the engine can be given, once.

use zeroize::Zeroizing;

use crate::{Count, CreateImageRequest, InvalidParameter, InvalidSize, Prompt, Seed, Size, Steps};

/// A request that keeps every rule. Nothing behind it checks again.
pub struct ImageRequest {
    /// The model's name, one that this node serves.
    pub model: String,
    /// What to draw; the style's suffix is part of it.
    pub prompt: Prompt,
    /// How many pictures.
    pub count: Count,
    /// Of which size, within the node's bounds.
    pub size: Size,
    /// Sampler steps.
    pub steps: Steps,
    /// The first picture's seed.
    pub seed: Seed,
    /// Whether the prompt was added to.
    pub style: Style,
    /// How the pictures are to be told back.
    pub response_format: ResponseFormat,
}

impl ImageRequest {
    /// Checks `request` against what the node offers. `draw_seed` is asked only where the client
    /// gave no seed.
    ///
    /// # Errors
    /// Names the first field that breaks a rule.
    pub fn parse(
        request: CreateImageRequest,
        offer: &Offer,
        draw_seed: impl FnOnce() -> Seed,
    ) -> Result<Self, InvalidParameter> {
        let model = request.model.ok_or(InvalidParameter::Missing { param: "model" })?;
        if model != offer.model {
            return Err(InvalidParameter::UnknownModel);
        }
        let prompt = request.prompt.ok_or(InvalidParameter::Missing { param: "prompt" })?;
        let prompt = Prompt::new(prompt).map_err(InvalidParameter::Prompt)?;
        let count = request.n.map_or(Ok(Count::ONE), Count::new);
        let count = count.map_err(|range| InvalidParameter::OutOfRange { param: "n", range })?;
        let size = match request.size.as_deref() {
            None | Some("auto") => offer.native_size,
            Some(text) => text.parse().map_err(InvalidParameter::Size)?,
        };
        offer.limits.check(size, count)?;
        let quality = match request.quality.as_deref() {
            None | Some("standard") => Steps::STANDARD,
            Some("hd") => Steps::HD,
            Some(_) => return Err(choice("quality", "standard, hd")),
        };
        let steps = request.steps.map_or(Ok(quality), Steps::new);
        let steps =
            steps.map_err(|range| InvalidParameter::OutOfRange { param: "steps", range })?;
        let response_format = match request.response_format.as_deref() {
            None | Some("url") => ResponseFormat::Url,
            Some("b64_json") => ResponseFormat::B64Json,
            Some(_) => return Err(choice("response_format", "url, b64_json")),
        };
        let (style, prompt) = match request.style.as_deref() {
            None | Some("natural") => (Style::Natural, prompt),
            Some("vivid") => (Style::Vivid, prompt.vivid()),
            Some(_) => return Err(choice("style", "natural, vivid")),
        };
        let seed = request.seed.map_or_else(draw_seed, Seed::new);
        Ok(Self { model, prompt, count, size, steps, seed, style, response_format })
    }

    /// n × width × height: the protocol's compute units.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        self.count.get() as u64 * self.size.pixels()
    }

    /// Latent patches of all pictures: the protocol's completion tokens.
    #[must_use]
    pub fn latent_patches(&self) -> u64 {
        self.count.get() as u64 * self.size.latent_patches()
    }

    /// The prompt as it is drawn, where it is not the prompt as it was sent.
    #[must_use]
    pub fn revised_prompt(&self) -> Option<Zeroizing<String>> {
        match self.style {
            Style::Natural => None,
            Style::Vivid => Some(Zeroizing::new(self.prompt.expose().to_owned())),
        }
    }
}

/// What a node offers, that a request is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The one model it serves.
    pub model: String,
    /// The size of a picture whose request names none.
    pub native_size: Size,
    /// Its bounds.
    pub limits: Limits,
}

/// How much one request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pixels of one picture.
    pub max_pixels: u64,
    /// Pixels of all pictures of one request.
    pub max_total_pixels: u64,
}

impl Limits {
    fn check(&self, size: Size, count: Count) -> Result<(), InvalidParameter> {
        if size.pixels() > self.max_pixels {
            return Err(InvalidParameter::TooManyPixels { max_pixels: self.max_pixels });
        }
        if size.pixels() * count.get() as u64 > self.max_total_pixels {
            return Err(InvalidParameter::TooManyPixelsInAll { max_pixels: self.max_total_pixels });
        }
        Ok(())
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

/// How pictures are told back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFormat {
    /// As a data URL.
    Url,
    /// As a data URL, and as bare base64.
    B64Json,
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

    fn offer() -> Offer {
        Offer {
            model: "obscura/demo".to_owned(),
            native_size: Size::new(256, 256).unwrap(),
            limits: Limits { max_pixels: 512 * 512, max_total_pixels: 4 * 512 * 512 },
        }
    }

    fn parse(body: &str) -> Result<ImageRequest, InvalidParameter> {
        let request = CreateImageRequest::from_json(body.as_bytes()).expect("an object")?;
        ImageRequest::parse(request, &offer(), || Seed::new(9))
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
                "quality": "hd", "style": "vivid", "response_format": "b64_json", "seed": 7}"#,
        );
        let request = request.ok().unwrap();
        assert_eq!((request.count.get(), request.steps, request.seed.get()), (2, Steps::HD, 7));
        assert_eq!(request.response_format, ResponseFormat::B64Json);
        assert_eq!(request.pixels(), 2 * 512 * 256);
        assert_eq!(
            request.revised_prompt().unwrap().as_str(),
            format!("a cat{}", crate::VIVID_SUFFIX)
        );
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
        ] {
            assert_eq!(blame(fields).param(), Some(param), "{fields}");
        }
        assert_eq!(parse(r#"{"prompt": "x"}"#).err().unwrap().param(), Some("model"));
        assert_eq!(parse(r#"{"model": "obscura/demo"}"#).err().unwrap().param(), Some("prompt"));
        assert_eq!(
            parse(r#"{"model": "other", "prompt": "x"}"#).err(),
            Some(InvalidParameter::UnknownModel)
        );
    }
}
