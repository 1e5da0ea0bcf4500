//! The models of a node: what each is called, what it offers, and what evidence tells of all of them.

use std::collections::BTreeSet;

use engine::{Generator, NamedGenerator};
use protocol::{Limits, MAX_INPUT_IMAGES, ModelCapabilities, Size};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::config::{ConfigError, check_native};

/// The longest name of a model: it is a label of metrics, and a line of a manifest.
const MAX_NAME_BYTES: usize = 256;

/// A loaded model, as the node offers it.
pub struct LoadedModel {
    /// The name that requests use.
    pub model: String,
    /// The size of an image whose request names none.
    pub native_size: Size,
    /// What was loaded, a line a file. Evidence shows it, and every receipt binds its SHA-256.
    pub manifest: Vec<u8>,
    /// The model itself, once for each device it is on.
    pub generators: Vec<Box<dyn Generator>>,
}

/// One model, or several; the first is drawn with where a request in clear text names none.
pub struct LoadedModels(Vec<LoadedModel>);

impl From<LoadedModel> for LoadedModels {
    fn from(model: LoadedModel) -> Self {
        Self(vec![model])
    }
}

impl From<Vec<LoadedModel>> for LoadedModels {
    fn from(models: Vec<LoadedModel>) -> Self {
        Self(models)
    }
}

/// What a service is made of.
pub(crate) struct Offer {
    /// In their order; one at least.
    pub(crate) capabilities: Vec<ModelCapabilities>,
    /// All models' manifests.
    pub(crate) manifest: Vec<u8>,
    /// SHA-256 of each model's own.
    pub(crate) manifest_digests: Vec<[u8; 32]>,
    /// Of each device, all models.
    pub(crate) engines: Vec<Vec<NamedGenerator>>,
}

impl LoadedModels {
    /// Checks that they can stand side by side, and sorts them by device.
    pub(crate) fn offer(self, limits: Limits) -> Result<Offer, ModelsError> {
        let Self(models) = self;
        let devices = models.first().map_or(0, |model| model.generators.len());
        if devices == 0 {
            return Err(ModelsError::NoEngine);
        }
        let mut names = BTreeSet::new();
        for LoadedModel { model, native_size, generators, .. } in &models {
            let is_name =
                (1..=MAX_NAME_BYTES).contains(&model.len()) && !model.chars().any(char::is_control);
            if !is_name {
                return Err(ModelsError::Name { model: model.clone() });
            }
            if !names.insert(model.clone()) {
                return Err(ModelsError::Twice { model: model.clone() });
            }
            if generators.len() != devices {
                return Err(ModelsError::Devices { model: model.clone() });
            }
            check_native(limits, *native_size)?;
        }
        if models.len() > 1
            && let Some(model) = models.iter().find(|model| !is_lines(&model.manifest))
        {
            return Err(ModelsError::Manifest { model: model.model.clone() });
        }
        let manifest = manifest(&models);
        let mut offer = Offer {
            capabilities: Vec::new(),
            manifest,
            manifest_digests: models.iter().map(|model| digest(&model.manifest)).collect(),
            engines: (0..devices).map(|_| Vec::new()).collect(),
        };
        for LoadedModel { model, native_size, generators, .. } in models {
            let guidance = generators[0].guidance();
            let max_input_images = generators[0].max_input_images().min(MAX_INPUT_IMAGES);
            for (engine, generator) in offer.engines.iter_mut().zip(generators) {
                engine.push(NamedGenerator { model: model.clone(), generator });
            }
            let capabilities =
                ModelCapabilities { model, native_size, guidance, max_input_images, limits };
            offer.capabilities.push(capabilities);
        }
        Ok(offer)
    }
}

/// Whether a manifest is lines of its own, none of which names a model.
fn is_lines(manifest: &[u8]) -> bool {
    let names = |line: &[u8]| line.starts_with(b"model ");
    manifest.ends_with(b"\n") && !manifest.split(|byte| *byte == b'\n').any(names)
}

fn digest(manifest: &[u8]) -> [u8; 32] {
    Sha256::digest(manifest).into()
}

/// Of one model, its own. Of several, each behind a line `model {name}`, in their order: a file's line begins with
/// its digest and a LoRA's with `lora`, so that the text cannot be read in two ways.
fn manifest(models: &[LoadedModel]) -> Vec<u8> {
    if let [alone] = models {
        return alone.manifest.clone();
    }
    let each = models.iter().map(|LoadedModel { model, manifest, .. }| {
        [format!("model {model}\n").as_bytes(), manifest].concat()
    });
    each.collect::<Vec<_>>().concat()
}

/// Why models cannot be served together.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelsError {
    /// No model to draw with.
    #[error("there is no engine: a model on one device at least")]
    NoEngine,
    /// A name that cannot stand in a manifest.
    #[error("{model:?} is no model's name: 1 to {MAX_NAME_BYTES} bytes, on one line")]
    Name {
        /// The name.
        model: String,
    },
    /// Requests could not tell two models apart.
    #[error("two models are called {model}: give one of them another `model_id`")]
    Twice {
        /// The name.
        model: String,
    },
    /// Some model is not on every device.
    #[error("{model} is not on as many devices as the others")]
    Devices {
        /// The model.
        model: String,
    },
    /// Among those of others, its manifest could be read in two ways.
    #[error(
        "the manifest of {model} has a last line without an end, or one that begins with `model `"
    )]
    Manifest {
        /// The model.
        model: String,
    },
    /// The configuration does not fit one of them.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Generator for Nothing {
        fn generate(
            &mut self,
            _: &engine::Job<'_>,
            _: &mut dyn engine::ProgressObserver,
        ) -> Result<engine::Generated, engine::Error> {
            Err(engine::Error::Cancelled)
        }
    }

    fn loaded(model: &str, devices: usize) -> LoadedModel {
        LoadedModel {
            model: model.to_owned(),
            native_size: Size::new(64, 64).unwrap(),
            manifest: format!("manifest of {model}\n").into_bytes(),
            generators: (0..devices).map(|_| Box::new(Nothing) as _).collect(),
        }
    }

    fn offer(models: Vec<LoadedModel>) -> Result<Offer, ModelsError> {
        let limits = Limits { max_pixels: 4096, max_total_pixels: 4096, max_prompt_chars: 100 };
        LoadedModels::from(models).offer(limits)
    }

    #[test]
    fn one_model_is_told_as_it_is_and_several_by_their_names() {
        let text = |models| String::from_utf8(offer(models).unwrap().manifest).unwrap();
        assert_eq!(text(vec![loaded("a", 1)]), "manifest of a\n");
        let both = "model a\nmanifest of a\nmodel b c\nmanifest of b c\n";
        assert_eq!(text(vec![loaded("a", 1), loaded("b c", 1)]), both);
        assert_ne!(text(vec![loaded("b c", 1), loaded("a", 1)]), both);
    }

    #[test]
    fn every_device_has_every_model() {
        let offer = offer(vec![loaded("a", 2), loaded("b", 2)]).unwrap();
        let names = |engine: &Vec<NamedGenerator>| -> Vec<String> {
            engine.iter().map(|model| model.model.clone()).collect()
        };
        assert_eq!(offer.engines.iter().map(names).collect::<Vec<_>>(), [["a", "b"], ["a", "b"]]);
        assert_eq!(offer.capabilities.len(), 2);
    }

    #[test]
    fn models_that_cannot_be_told_apart_are_refused() {
        let refused = |models| offer(models).err().unwrap();
        assert!(matches!(refused(vec![]), ModelsError::NoEngine));
        assert!(matches!(refused(vec![loaded("a", 0)]), ModelsError::NoEngine));
        let twice = vec![loaded("a", 1), loaded("b", 1), loaded("a", 1)];
        assert!(matches!(refused(twice), ModelsError::Twice { model } if model == "a"));
        let fewer = vec![loaded("a", 2), loaded("b", 1)];
        assert!(matches!(refused(fewer), ModelsError::Devices { model } if model == "b"));
        for name in ["", "a\nmodel b", &"x".repeat(257)] {
            assert!(matches!(refused(vec![loaded(name, 1)]), ModelsError::Name { .. }), "{name:?}");
        }
        let large = LoadedModel { native_size: Size::new(128, 128).unwrap(), ..loaded("a", 1) };
        assert!(matches!(refused(vec![large]), ModelsError::Config(_)));
    }
}
