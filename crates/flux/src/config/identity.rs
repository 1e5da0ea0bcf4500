//! What a configuration says it is for. A directory may name another scheduler or another model in the same fields
//! as FLUX.1's, and would be drawn from without a word.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// The classes of a part, where a configuration names them, and what else it must not ask for.
pub(crate) struct Identity {
    /// In errors, and in `model_index.json`.
    pub(crate) component: &'static str,
    /// diffusers' `_class_name`, or transformers' `architectures`.
    pub(crate) classes: &'static [&'static str],
    /// transformers' `model_type`; empty where there is none.
    pub(crate) model_types: &'static [&'static str],
}

pub(crate) const TRANSFORMER: Identity =
    Identity { component: "transformer", classes: &["FluxTransformer2DModel"], model_types: &[] };

pub(crate) const AUTOENCODER: Identity =
    Identity { component: "vae", classes: &["AutoencoderKL"], model_types: &[] };

pub(crate) const CLIP: Identity = Identity {
    component: "text_encoder",
    classes: &["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"],
    model_types: &["clip_text_model", "clip"],
};

pub(crate) const T5: Identity = Identity {
    component: "text_encoder_2",
    classes: &["T5EncoderModel", "T5ForConditionalGeneration", "T5Model"],
    model_types: &["t5"],
};

pub(crate) const SCHEDULER: Identity = Identity {
    component: "scheduler",
    classes: &["FlowMatchEulerDiscreteScheduler"],
    model_types: &[],
};

/// FLUX.1's parts, by the pipeline that its directories name.
pub(crate) const FLUX1: Family = Family {
    pipeline: "FluxPipeline",
    parts: &[&TRANSFORMER, &AUTOENCODER, &CLIP, &T5, &SCHEDULER, &CLIP_TOKENIZER, &T5_TOKENIZER],
};

const CLIP_TOKENIZER: Identity = Identity {
    component: "tokenizer",
    classes: &["CLIPTokenizer", "CLIPTokenizerFast"],
    model_types: &[],
};

const T5_TOKENIZER: Identity = Identity {
    component: "tokenizer_2",
    classes: &["T5Tokenizer", "T5TokenizerFast"],
    model_types: &[],
};

/// The parts of a kind of model.
pub(crate) struct Family {
    /// `_class_name` of its `model_index.json`.
    pub(crate) pipeline: &'static str,
    pub(crate) parts: &'static [&'static Identity],
}

impl Identity {
    fn is_class(&self, name: &str) -> bool {
        self.classes.contains(&name)
    }

    fn refuse<T>(&self, field: &'static str, value: &str) -> Result<T> {
        Err(Error::Unsupported { component: self.component, field, value: value.to_owned() })
    }
}

/// The fields by which configurations say what they are for.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Claims {
    #[serde(default, rename = "_class_name")]
    class_name: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    model_type: Option<String>,
    /// Weights in another form than their names say.
    #[serde(default)]
    quantization_config: Option<Value>,
}

impl Claims {
    /// # Errors
    /// Names the field that is another's.
    pub(crate) fn check(&self, of: &Identity) -> Result<()> {
        if let Some(name) = &self.class_name
            && !of.is_class(name)
        {
            return of.refuse("_class_name", name);
        }
        if let Some(other) = self.architectures.iter().flatten().find(|name| !of.is_class(name)) {
            return of.refuse("architectures", other);
        }
        if let Some(kind) = &self.model_type
            && !of.model_types.contains(&&**kind)
        {
            return of.refuse("model_type", kind);
        }
        match &self.quantization_config {
            None | Some(Value::Null) => Ok(()),
            Some(settings) => of.refuse("quantization_config", &settings.to_string()),
        }
    }
}

/// `model_index.json`: which pipeline the directory is for, and the class of each part.
#[derive(Deserialize)]
pub(crate) struct ModelIndex {
    #[serde(rename = "_class_name")]
    class_name: String,
    #[serde(flatten)]
    parts: BTreeMap<String, Value>,
}

impl ModelIndex {
    /// Which pipeline the directory is for.
    pub(crate) fn pipeline(&self) -> &str {
        &self.class_name
    }

    /// Any other field.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.parts.get(name)
    }

    /// # Errors
    /// Where it is for another pipeline, or a part is of another class.
    pub(crate) fn check(&self, family: &Family) -> Result<()> {
        const COMPONENT: &str = "model_index.json";
        if self.class_name != family.pipeline {
            let (component, value) = (COMPONENT, self.class_name.clone());
            return Err(Error::Unsupported { component, field: "_class_name", value });
        }
        for of in family.parts {
            // `["diffusers", "AutoencoderKL"]`
            let class = self.parts.get(of.component).and_then(|part| part.get(1)?.as_str());
            if let Some(class) = class
                && !of.is_class(class)
            {
                let value = class.to_owned();
                return Err(Error::Unsupported {
                    component: COMPONENT,
                    field: of.component,
                    value,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(index: &str) -> String {
        let index: ModelIndex = serde_json::from_str(index).unwrap();
        index.check(&FLUX1).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn another_scheduler_in_the_index_is_refused_by_its_name() {
        let index = |class: &str| {
            format!(
                r#"{{"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1", "feature_extractor": [null, null],
                    "scheduler": ["diffusers", "{class}"], "vae": ["diffusers", "AutoencoderKL"]}}"#
            )
        };
        assert_eq!(refused(&index("FlowMatchEulerDiscreteScheduler")), "");
        for other in
            ["FlowMatchLCMScheduler", "FlowMatchHeunDiscreteScheduler", "UniPCMultistepScheduler"]
        {
            assert!(refused(&index(other)).contains(other));
        }
        assert!(refused(r#"{"_class_name": "FluxFillPipeline"}"#).contains("FluxFillPipeline"));
    }

    #[test]
    fn claims_are_checked_where_they_are_made() {
        let check = |json: &str, of: &Identity| {
            let claims: Claims = serde_json::from_str(json).unwrap();
            claims.check(of).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(check("{}", &SCHEDULER), "");
        assert_eq!(check(r#"{"architectures": ["T5EncoderModel"], "model_type": "t5"}"#, &T5), "");
        for (json, of) in [
            (r#"{"_class_name": "FlowMatchLCMScheduler"}"#, &SCHEDULER),
            (r#"{"architectures": ["UMT5EncoderModel"]}"#, &T5),
            (r#"{"model_type": "umt5"}"#, &T5),
            (r#"{"model_type": "siglip_text_model"}"#, &CLIP),
            (r#"{"quantization_config": {"load_in_8bit": true}}"#, &TRANSFORMER),
        ] {
            assert!(check(json, of).contains(of.component), "{json}");
        }
    }
}
