//! Which models a node is made of: one, by settings of its own, or several, by a table each.
//!
//! ```toml
//! model = "demo"                     # one
//!
//! [[model]]                          # or several
//! model = "/models/flux1-schnell"
//! lora = [{ file = "ink.safetensors", weight = 0.8, sha256 = "…" }]
//! ```

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use flux::{Lora, LoraWeight};
use serde::Deserialize;
use toml::Value;

use super::Settings;

/// Models of one node: each is held in memory.
const MOST: usize = 16;

/// One model, before it is known where it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChosenModel {
    /// `demo`, a known model, or a directory.
    pub(super) model: String,
    /// What requests call it.
    pub(super) id: Option<String>,
    pub(super) manifest: Option<PathBuf>,
    pub(super) lora: Vec<Lora>,
}

/// A `[[model]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelTable {
    model: String,
    #[serde(default)]
    model_id: Option<String>,
    #[serde(default)]
    manifest: Option<PathBuf>,
    #[serde(default)]
    lora: Vec<Value>,
}

/// A LoRA as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoraTable {
    file: PathBuf,
    #[serde(default = "whole")]
    weight: LoraWeight,
    #[serde(default)]
    sha256: Option<flux::FileDigest>,
}

fn whole() -> LoraWeight {
    LoraWeight::ONE
}

impl Settings {
    /// All of them; the first is drawn with where a request names none.
    pub(super) fn models(&self) -> anyhow::Result<Vec<ChosenModel>> {
        let said = self.0.get("model").map(|setting| &setting.value);
        let at = || format!("`model` ({})", self.source("model"));
        let entries = match said {
            Some(Value::Array(entries)) => entries.clone(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        };
        ensure!(!entries.is_empty(), "{} names no model", at());
        ensure!(entries.len() <= MOST, "{} names more than {MOST} models", at());
        let is_one = matches!(&entries[..], [Value::String(_)]);
        for key in ["model_id", "manifest", "lora"] {
            ensure!(
                is_one || !self.is_said(key),
                "`{key}` ({}) is for one model; where there are several, or a table of one, it stands in each \
                 [[model]]",
                self.source(key)
            );
        }
        let models = entries.iter().map(|entry| match entry {
            Value::String(model) if is_one => Ok(ChosenModel {
                model: model.clone(),
                id: self.given("model_id")?.map(str::to_owned),
                manifest: self.given("manifest")?.map(Into::into),
                lora: self.loras()?,
            }),
            Value::String(model) => {
                Ok(ChosenModel { model: model.clone(), id: None, manifest: None, lora: Vec::new() })
            }
            Value::Table(table) => {
                let table: ModelTable =
                    table.clone().try_into().map_err(|error: toml::de::Error| {
                        anyhow::anyhow!("{}: {}", at(), error.message())
                    })?;
                let lora = table.lora.iter().map(read_lora).collect::<anyhow::Result<_>>();
                Ok(ChosenModel {
                    lora: lora.with_context(|| format!("{}, `lora` of {}", at(), table.model))?,
                    model: table.model,
                    id: table.model_id,
                    manifest: table.manifest,
                })
            }
            other => {
                bail!("{} must be a text, or tables, not {}", at(), super::kind(other.type_str()))
            }
        });
        models.collect()
    }

    fn loras(&self) -> anyhow::Result<Vec<Lora>> {
        let said = self.0.get("lora").and_then(|setting| setting.value.as_array());
        let loras = said.into_iter().flatten().map(read_lora).collect::<anyhow::Result<_>>();
        loras.with_context(|| format!("`lora` ({})", self.source("lora")))
    }

    fn is_said(&self, key: &str) -> bool {
        let value = self.0.get(key).map(|setting| &setting.value);
        match value {
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(entries)) => !entries.is_empty(),
            _ => false,
        }
    }
}

/// `FILE:WEIGHT`, or a table.
fn read_lora(value: &Value) -> anyhow::Result<Lora> {
    match value {
        Value::String(text) => Ok(text.parse()?),
        Value::Table(table) => {
            let read = table.clone().try_into();
            let LoraTable { file, weight, sha256 } =
                read.map_err(|error: toml::de::Error| anyhow::anyhow!("{}", error.message()))?;
            ensure!(!file.as_os_str().is_empty(), "`file` is empty");
            Ok(Lora { file, weight, sha256 })
        }
        other => {
            bail!("each must be FILE:WEIGHT or a table, not {}", super::kind(other.type_str()))
        }
    }
}
