//! What diffusers writes into a LoRA's metadata of how it was trained: peft's `LoraConfig`, with names that begin
//! with the component's.
//!
//! Source: diffusers v0.42.1, `loaders/lora_base.py`, `_pack_dict_with_prefix`; peft v0.21.2, `get_pattern_key`.

use serde_json::{Map, Value};

use super::LoraError;
use crate::checkpoint::json;

const PREFIX: &str = "transformer.";

/// Fields that make another method of it where they are true.
const METHODS: [(&str, &str); 3] = [
    ("use_dora", "DoRA"),
    ("use_rslora", "rank-stabilised LoRA"),
    ("lora_bias", "LoRA with biases"),
];

/// The alphas of layers.
pub(super) struct Alphas {
    common: f64,
    /// By the end of a layer's name, or by all of it.
    of_layers: Vec<(Pattern, f64)>,
}

struct Pattern {
    text: String,
    is_whole: bool,
}

impl Alphas {
    /// Reads the metadata; `None` where they say nothing of a transformer.
    ///
    /// # Errors
    /// Where they cannot be understood, or tell of another method.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, LoraError> {
        let invalid = |what: String| LoraError::Metadata { what };
        let all = json::value(text.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let Value::Object(all) = all else { return Err(invalid("no object".to_owned())) };
        let own = all
            .into_iter()
            .filter_map(|(key, value)| key.strip_prefix(PREFIX).map(|key| (key.to_owned(), value)));
        let own: Map<String, Value> = own.collect();
        if own.is_empty() {
            return Ok(None);
        }
        for (field, method) in METHODS {
            match own.get(field) {
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(_) => {
                    return Err(LoraError::Method { key: format!("{PREFIX}{field}"), method });
                }
            }
        }
        let number = |field: &str, value: Option<&Value>| {
            let number = value.and_then(Value::as_f64).filter(|number| number.is_finite());
            number.ok_or_else(|| invalid(format!("{PREFIX}{field} is no number")))
        };
        let patterns = match own.get("alpha_pattern") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(patterns)) => patterns.clone(),
            Some(_) => return Err(invalid(format!("{PREFIX}alpha_pattern is no object"))),
        };
        let of_layers = patterns.iter().map(|(pattern, value)| {
            let whole = pattern.strip_prefix('^');
            let text = whole.unwrap_or(pattern);
            // More than names would be regular expressions.
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if text.is_empty() || !text.chars().all(is_name) {
                return Err(invalid(format!("{pattern:?} is no layer's name")));
            }
            let pattern = Pattern { text: text.to_owned(), is_whole: whole.is_some() };
            Ok((pattern, number("alpha_pattern", Some(value))?))
        });
        Ok(Some(Self {
            of_layers: of_layers.collect::<Result<_, _>>()?,
            common: number("lora_alpha", own.get("lora_alpha"))?,
        }))
    }

    /// The alpha of a layer.
    pub(super) fn of(&self, layer: &str) -> f64 {
        let is_meant = |pattern: &Pattern| match layer.strip_suffix(&*pattern.text) {
            Some(rest) => rest.is_empty() || !pattern.is_whole && rest.ends_with('.'),
            None => false,
        };
        let found = self.of_layers.iter().find(|(pattern, _)| is_meant(pattern));
        found.map_or(self.common, |(_, alpha)| *alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_alpha_is_its_own_or_the_common_one() {
        let text = r#"{"transformer.lora_alpha": 8, "transformer.r": 4, "transformer.use_dora": false,
            "transformer.alpha_pattern": {"^a.proj_out": 1.5, "to_q": 2}}"#;
        let alphas = Alphas::parse(text).unwrap().unwrap();
        let of = ["a.proj_out", "b.a.proj_out", "x.to_q", "into_q", "to_q"];
        assert_eq!(of.map(|layer| alphas.of(layer)), [1.5, 8.0, 2.0, 8.0, 2.0]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, says) in [
            ("[]", "object"),
            ("{", "EOF"),
            (r#"{"transformer.r": 4}"#, "lora_alpha"),
            (r#"{"transformer.lora_alpha": "4"}"#, "lora_alpha"),
            (r#"{"transformer.lora_alpha": 4, "transformer.use_dora": true}"#, "DoRA"),
            (r#"{"transformer.lora_alpha": 4, "transformer.use_rslora": true}"#, "rank-stabilised"),
            (r#"{"transformer.lora_alpha": 4, "transformer.alpha_pattern": {"a|b": 1}}"#, "a|b"),
            (r#"{"transformer.lora_alpha": 4, "transformer.alpha_pattern": 1}"#, "alpha_pattern"),
        ] {
            let refused = Alphas::parse(text).err().unwrap().to_string();
            assert!(refused.contains(says), "{text}: {refused}");
        }
        assert!(Alphas::parse(r#"{"text_encoder.r": 4}"#).unwrap().is_none());
    }
}
