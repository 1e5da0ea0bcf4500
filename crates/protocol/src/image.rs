//! The body of a request to the image API: OpenAI's `CreateImageRequest`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    InputReference, InvalidParameter, Operation, SecretString, input, integer,
    json::{mended_surrogates, to_wiped_json},
};

/// What a client asks for, before any rule is checked. Holds the prompt: no `Debug`, no `Clone`,
/// wiped when dropped. Unknown fields are accepted, as OpenAI does.
#[derive(Default, Serialize, Deserialize, ToSchema)]
pub struct CreateImageRequest {
    /// The model; in clear text, the node's first where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What to draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = true, min_length = 1)]
    pub prompt: Option<SecretString>,
    /// How many images; 1 where absent.
    #[serde(
        default,
        deserialize_with = "integer::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(minimum = 1, maximum = 10)]
    pub n: Option<i64>,
    /// `WIDTHxHEIGHT` or `auto`; the model's native size where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// `auto`, `low`, `medium`, `high`, `standard` or `hd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// `url` or `b64_json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<String>,
    /// `natural` or `vivid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
    /// The end user, for the client's own records. Never logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub user: Option<SecretString>,
    /// The same, by its newer name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub safety_identifier: Option<SecretString>,
    /// `png`, `jpeg` or `webp`; PNG where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<String>,
    /// How good a JPEG is, 0 to 100. The other formats lose nothing, and take 100 alone.
    #[serde(
        default,
        deserialize_with = "integer::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(minimum = 0, maximum = 100)]
    pub output_compression: Option<i64>,
    /// `auto` or `opaque`: nothing here draws transparency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// `auto` or `low`: a node does not moderate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moderation: Option<String>,
    /// Whether the answer is to be a stream of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Of a stream: images on the way, of each image, 0 to 3.
    #[serde(
        default,
        deserialize_with = "integer::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(minimum = 0, maximum = 3)]
    pub partial_images: Option<i64>,
    /// Our extension: the seed of the first image; -1 leaves it to the node.
    #[serde(default, deserialize_with = "integer::seed", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = -1)]
    pub seed: Option<u64>,
    /// Our extension: sampler steps, 1 to 50, over `quality`.
    #[serde(
        default,
        deserialize_with = "integer::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(minimum = 1, maximum = 50)]
    pub steps: Option<i64>,
    /// Our extension: the guidance scale, 0 to 30, of models that take one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 30)]
    pub guidance: Option<f64>,
    /// Our extension, of a stream: an event a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<bool>,
    /// Of an edit: what to draw it from beside the prompt.
    #[serde(
        default,
        deserialize_with = "input::references",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(ignore)]
    pub images: Option<Vec<InputReference>>,
    /// Of an edit: which part of the first image is drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub mask: Option<InputReference>,
    /// Of an edit: `high` or `low`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub input_fidelity: Option<String>,
    /// Known from other servers: images by names that nothing here reads. Whether they are there is seen, so that a
    /// request is not drawn without them.
    #[serde(default, deserialize_with = "input::is_there", skip_serializing)]
    #[schema(ignore)]
    pub image: bool,
    /// The same.
    #[serde(default, deserialize_with = "input::is_there", skip_serializing)]
    #[schema(ignore)]
    pub image_url: bool,
    /// Known from other servers, and refused: no model here reads one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub negative_prompt: Option<SecretString>,
    /// Our extension: what is said of where the images are from: `none`, `receipt`, `mark`, `c2pa` or `c2pa+mark`.
    /// Where absent, nothing in sealed answers; on the route in clear text what the operator decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// Our extension: what the commitment to prompt and parameters is salted with, 64 hexadecimal digits; drawn by
    /// the node where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub provenance_salt: Option<SecretString>,
    /// Our extension: ignored. A client fills it with random text, so that neither the length nor
    /// the public hash of its body gives the prompt away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<String>,
}

impl CreateImageRequest {
    /// Names of the fields, as they travel.
    pub(crate) const FIELDS: [&str; 26] = [
        "model",
        "prompt",
        "n",
        "size",
        "quality",
        "response_format",
        "style",
        "user",
        "safety_identifier",
        "output_format",
        "output_compression",
        "background",
        "moderation",
        "stream",
        "partial_images",
        "seed",
        "steps",
        "guidance",
        "progress",
        "images",
        "mask",
        "input_fidelity",
        "negative_prompt",
        "provenance",
        "provenance_salt",
        "padding",
    ];

    /// Reads a JSON body.
    ///
    /// # Errors
    /// Where it is no JSON object, or one that breaks a rule of types.
    pub fn from_json(body: &[u8]) -> Result<Self, InvalidRequest> {
        match mended_surrogates(body) {
            Some(mended) => Self::from_mended_json(&mended),
            None => Self::from_mended_json(body),
        }
    }

    fn from_mended_json(body: &[u8]) -> Result<Self, InvalidRequest> {
        let no_object = |_| InvalidRequest::NotAnObject;
        // A JSON array would also fill a struct; serde takes either.
        if body.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(InvalidRequest::NotAnObject);
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let parsed = serde_path_to_error::deserialize(&mut json);
        match parsed {
            Ok(request) => json.end().map(|()| request).map_err(no_object),
            Err(error) if error.inner().is_data() => {
                // Well-formed as far as it was read; make sure of the rest before blaming a field.
                serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(no_object)?;
                let path = error.path().to_string();
                let told = error.inner().to_string();
                // `images[0].image_url` is within `images`.
                let named = path.split(['[', '.']).next().unwrap_or_default();
                Err(InvalidRequest::Parameter(
                    match Self::FIELDS.into_iter().find(|field| *field == named) {
                        Some(param) => InvalidParameter::Type { param },
                        // Serde's words, in which a known field's name is all that is quoted.
                        None => Self::FIELDS
                            .into_iter()
                            .find(|field| told.starts_with(&format!("duplicate field `{field}`")))
                            .map(|param| InvalidParameter::Duplicate { param })
                            .ok_or(InvalidRequest::NotAnObject)?,
                    },
                ))
            }
            Err(_) => Err(InvalidRequest::NotAnObject),
        }
    }

    /// What it asks for: a request with images is an edit.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self.images.is_some() || self.mask.is_some() {
            true => Operation::Edit,
            false => Operation::Generation,
        }
    }

    /// Refuses what only an edit has, on the routes for generations.
    ///
    /// # Errors
    /// Names the field.
    pub fn check_is_generation(&self) -> Result<(), InvalidParameter> {
        let given = [
            ("images", self.images.is_some()),
            ("image", self.image),
            ("image_url", self.image_url),
            ("mask", self.mask.is_some()),
            ("input_fidelity", self.input_fidelity.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((param, _)) => Err(InvalidParameter::OnlyEdits { param }),
            None => Ok(()),
        }
    }

    /// Writes the JSON body that a client seals.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let inputs = self.images.iter().flatten().chain(&self.mask);
        to_wiped_json(self, inputs.map(InputReference::written_bytes).sum(), |length| length)
    }
}

/// An edit: what a generation has, and images. For documentation alone: both are read as
/// [`CreateImageRequest`].
#[derive(ToSchema)]
#[expect(dead_code, reason = "its shape alone is read, by the OpenAPI document")]
pub struct EditImageRequest {
    #[schema(inline)]
    #[serde(flatten)]
    request: CreateImageRequest,
    /// What to draw it from: PNG, JPEG or WebP, known by their content; 20 MB in all. How many, the model says.
    #[schema(min_items = 1, max_items = 4)]
    images: Vec<ImageUrl>,
    /// A PNG as large as the first image: where it is transparent, that is drawn anew, and elsewhere kept. It counts
    /// towards the 20 MB.
    mask: Option<ImageUrl>,
    /// `high` or `low`; models here always look at all of an input image.
    input_fidelity: Option<String>,
}

/// An input image.
#[derive(ToSchema)]
#[expect(dead_code, reason = "its shape alone is read, by the OpenAPI document")]
pub struct ImageUrl {
    /// `data:image/png;base64,…`, `data:image/jpeg;base64,…` or `data:image/webp;base64,…`
    #[schema(pattern = "^data:image/(png|jpeg|webp);base64,")]
    image_url: String,
}

/// What is wrong with a request's body. The two differ for whoever answers: only the second was certainly
/// written by somebody who speaks this protocol.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidRequest {
    /// The body is not one JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// It is one, and breaks a rule.
    #[error(transparent)]
    Parameter(#[from] InvalidParameter),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blame(body: &str) -> InvalidParameter {
        match CreateImageRequest::from_json(body.as_bytes()) {
            Err(InvalidRequest::Parameter(invalid)) => invalid,
            _ => panic!("must be refused"),
        }
    }

    #[test]
    fn a_wrong_type_names_its_field() {
        assert_eq!(blame(r#"{"prompt": 7}"#), InvalidParameter::Type { param: "prompt" });
        assert_eq!(blame(r#"{"n": "two"}"#), InvalidParameter::Type { param: "n" });
        assert_eq!(blame(r#"{"n": 1.5}"#), InvalidParameter::Type { param: "n" });
        assert_eq!(blame(r#"{"seed": -2}"#), InvalidParameter::Type { param: "seed" });
        assert_eq!(blame(r#"{"seed": 1.5}"#), InvalidParameter::Type { param: "seed" });
        assert_eq!(blame(r#"{"n": 1e300}"#), InvalidParameter::Type { param: "n" });
        assert_eq!(blame(r#"{"size": {"w": 1}}"#), InvalidParameter::Type { param: "size" });
        for field in CreateImageRequest::FIELDS {
            // An object may be a mask.
            let other = if field == "mask" { "7" } else { "{}" };
            let found = blame(&format!(r#"{{"{field}": {other}}}"#));
            assert_eq!(found, InvalidParameter::Type { param: field });
        }
        assert_eq!(blame(r#"{"n": 1, "n": 2}"#), InvalidParameter::Duplicate { param: "n" });
        let text = blame(r#"{"n": 1.5}"#).to_string();
        assert_eq!(text, "`n` must be a whole number from 1 to 10");
    }

    #[test]
    fn an_image_by_another_name_is_no_generation() {
        for field in ["image", "image_url", "images", "mask", "input_fidelity"] {
            let value = if field == "images" { "[]" } else { "\"data:image/png;base64,AA\"" };
            let read =
                CreateImageRequest::from_json(format!("{{\"{field}\": {value}}}").as_bytes());
            let refused = read.ok().unwrap().check_is_generation();
            assert_eq!(refused, Err(InvalidParameter::OnlyEdits { param: field }));
        }
        let absent = CreateImageRequest::from_json(br#"{"image": null}"#).ok().unwrap();
        assert_eq!(absent.check_is_generation(), Ok(()));
    }

    #[test]
    fn what_is_no_object_is_told_apart() {
        for body in ["", "null", "[]", "[1,2]", "\"x\"", "{", "{}x", "{\"n\": \"two\"", "\u{0}{}"] {
            let refused = CreateImageRequest::from_json(body.as_bytes()).err();
            assert_eq!(refused, Some(InvalidRequest::NotAnObject), "{body}");
        }
        assert!(CreateImageRequest::from_json(b" {\"new_field\": [1]} ").is_ok());
    }

    #[test]
    fn whole_numbers_are_integers_and_minus_one_is_no_seed() {
        let read = |body: &str| CreateImageRequest::from_json(body.as_bytes()).ok().unwrap();
        let request = read(r#"{"n": 1.0, "seed": 42.0, "steps": 4e0, "partial_images": null}"#);
        assert_eq!((request.n, request.seed), (Some(1), Some(42)));
        assert_eq!((request.steps, request.partial_images), (Some(4), None));
        assert_eq!(read(r#"{"seed": 18446744073709551615}"#).seed, Some(u64::MAX));
        assert_eq!([read(r#"{"seed": -1}"#).seed, read(r#"{"seed": -1.0}"#).seed], [None, None]);
    }

    /// As a client writes an emoji that it cut in two.
    #[test]
    fn half_a_surrogate_pair_is_a_replacement_character() {
        let prompt = |body: &str| {
            let request = CreateImageRequest::from_json(body.as_bytes());
            serde_json::to_value(request.ok().unwrap().prompt).unwrap().as_str().unwrap().to_owned()
        };
        assert_eq!(prompt(r#"{"prompt": "a \ud83d"}"#), "a \u{fffd}");
        assert_eq!(prompt(r#"{"prompt": "\uDE00\ud83d x"}"#), "\u{fffd}\u{fffd} x");
        assert_eq!(prompt(r#"{"prompt": "\ud83d\uD83D\ude00"}"#), "\u{fffd}\u{1f600}");
        assert_eq!(prompt(r#"{"prompt": "\\ud83d \ud83d"}"#), "\\ud83d \u{fffd}");
        assert_eq!(prompt(r#"{"prompt": "\ud83d\ude00"}"#), "\u{1f600}");
    }

    #[test]
    fn absent_and_null_are_the_same() {
        let request = CreateImageRequest::from_json(br#"{"size": null, "user": null}"#);
        let Ok(request) = request else { panic!("nulls are accepted") };
        assert!(request.size.is_none() && request.user.is_none());
        assert_eq!(&**request.to_json(), b"{}");
    }
}
