//! The two forms in which FLUX.1 is published.
//!
//! diffusers' has a folder a component, its weights sharded or not, each with its `config.json`.
//! Black Forest Labs' has the transformer in `flux1-*.safetensors` (or `.sft`) and the autoencoder in
//! `ae.safetensors`, with no configuration; the text encoders, which they did not make, lie beside
//! them in diffusers' folders. The published repository holds both forms; where the files of both
//! are there, diffusers' are taken.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Directory, Shards, bfl};
use crate::{
    Error, Result,
    config::{FLUX1, ModelIndex},
};

/// Transformer or autoencoder: the parts that come in two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Transformer,
    AutoEncoder,
}

/// In which form a directory holds its transformer and autoencoder.
pub(crate) struct Layout {
    transformer: Form,
    autoencoder: Form,
}

enum Form {
    Diffusers,
    /// A file in the directory itself.
    Bfl(String),
}

impl Layout {
    /// Looks at which files are there, and checks what `model_index.json` says where it is there.
    ///
    /// # Errors
    /// Where the index is for another pipeline, or several files could be meant.
    pub(crate) fn find(directory: &mut Directory, index: Option<&ModelIndex>) -> Result<Self> {
        let has_weights = |folder: &str, directory: &Directory| {
            ["safetensors", "safetensors.index.json"]
                .iter()
                .any(|ending| directory.has(&format!("{folder}/diffusion_pytorch_model.{ending}")))
        };
        let flux1 = directory.only_like(
            |name| name.starts_with("flux1"),
            &["flux1-schnell.safetensors", "flux1-dev.safetensors"],
        );
        let ae = directory.only_like(|name| name.starts_with("ae."), &["ae.safetensors"]);
        // Where diffusers' files are there, it does not matter what lies beside them.
        let flux1 = if has_weights("transformer", directory) { None } else { flux1? };
        let ae = if has_weights("vae", directory) { None } else { ae? };
        let layout = Self {
            transformer: flux1.map_or(Form::Diffusers, Form::Bfl),
            autoencoder: ae.map_or(Form::Diffusers, Form::Bfl),
        };
        match (index, &layout.transformer) {
            (Some(index), _) => index.check(&FLUX1)?,
            (None, Form::Bfl(_)) => {}
            // It is missing, which reading it says.
            (None, Form::Diffusers) => {
                directory.json::<ModelIndex>("model_index.json")?.check(&FLUX1)?
            }
        }
        Ok(layout)
    }

    /// The configuration of a part: its file, or, for a single file that comes without, the
    /// published one.
    ///
    /// # Errors
    /// Where the file is missing or malformed.
    pub(crate) fn config<T: DeserializeOwned>(
        &self,
        part: Part,
        directory: &mut Directory,
    ) -> Result<T> {
        let name = format!("{}/config.json", part.folder());
        self.json_or(&name, part, directory)
    }

    /// The scheduler's configuration, likewise.
    ///
    /// # Errors
    /// Where the file is missing or malformed.
    pub(crate) fn scheduler<T: DeserializeOwned>(&self, directory: &mut Directory) -> Result<T> {
        self.json_or("scheduler/scheduler_config.json", Part::Transformer, directory)
    }

    /// The weights files of a part.
    ///
    /// # Errors
    /// Where there are none.
    pub(crate) fn shards(&self, part: Part, directory: &mut Directory) -> Result<Shards> {
        match self.form(part) {
            Form::Diffusers => directory.shards(part.folder()),
            Form::Bfl(file) => {
                let single = directory.single(part.folder(), file)?;
                Ok(match part {
                    Part::Transformer => single.renamed_by(&bfl::TRANSFORMER),
                    Part::AutoEncoder => single.renamed(bfl::autoencoder),
                })
            }
        }
    }

    fn json_or<T: DeserializeOwned>(
        &self,
        name: &str,
        part: Part,
        directory: &mut Directory,
    ) -> Result<T> {
        match self.form(part) {
            Form::Bfl(file) if !directory.has(name) => {
                let published = published(name, file.starts_with("flux1-dev"));
                serde_json::from_value(published)
                    .map_err(|source| Error::Json { path: directory.path(name), source })
            }
            _ => directory.json(name),
        }
    }

    fn form(&self, part: Part) -> &Form {
        match part {
            Part::Transformer => &self.transformer,
            Part::AutoEncoder => &self.autoencoder,
        }
    }
}

impl Part {
    /// Its folder in diffusers' form, and its name in errors.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::AutoEncoder => "vae",
        }
    }
}

/// The configurations of FLUX.1-schnell and FLUX.1-dev, as their repositories publish them. The
/// fields that are left out are those whose defaults they are.
fn published(name: &str, is_dev: bool) -> Value {
    match name {
        "transformer/config.json" => json!({
            "in_channels": 64, "num_layers": 19, "num_single_layers": 38,
            "attention_head_dim": 128, "num_attention_heads": 24,
            "joint_attention_dim": 4096, "pooled_projection_dim": 768,
            "guidance_embeds": is_dev, "axes_dims_rope": [16, 56, 56],
        }),
        "vae/config.json" => json!({
            "latent_channels": 16, "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 1024,
            "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_post_quant_conv": false,
        }),
        _ if is_dev => json!({ "shift": 3.0, "use_dynamic_shifting": true }),
        _ => json!({ "shift": 1.0, "use_dynamic_shifting": false }),
    }
}
