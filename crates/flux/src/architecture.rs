//! What every architecture (FLUX.1, FLUX.2-klein) implements. To add one: a file like `flux2.rs`, its entry in
//! `ARCHITECTURES` of `model.rs`, and what its components need in `config`, `text`, `transformer`, `autoencoder` and
//! `checkpoint`.

use candle_core::Device;
use protocol::Size;

use crate::{
    Result,
    autoencoder::AutoEncoder,
    checkpoint::{Directory, Shards, Weights, renaming::Renaming},
    config::ModelIndex,
    dimensions::Dimensions,
    role::Role,
    sampler::Schedule,
    text::TextEncoder,
    transformer::Transformer,
    work::Work,
};

/// What a model's configurations say, beside what its parts are built by.
pub(crate) trait ModelConfig: Send {
    fn dimensions(&self) -> Dimensions;

    /// Noise levels of an image of so many tokens.
    fn schedule(&self, steps: usize, image_tokens: usize) -> Schedule;

    /// How much there is to compute.
    fn work(&self, size: Size, steps: usize) -> Work;
}

/// What builds a kind of model, a component at a time.
pub(crate) trait Blueprint {
    fn config(&self) -> Box<dyn ModelConfig>;

    /// Its components: where each lies in diffusers' layout, and what it is for.
    fn components(&self) -> &'static [(&'static str, Role)];

    /// Builds the component of this number. It computes on `device`, wherever its weights rest.
    fn build(&mut self, component: usize, weights: Weights, device: &Device) -> Result<()>;

    /// All of them together; `None` where one was not built.
    fn finish(self: Box<Self>) -> Option<Parts>;
}

/// The components of a model.
pub(crate) struct Parts {
    pub(crate) text: Box<dyn TextEncoder>,
    pub(crate) transformer: Transformer,
    pub(crate) autoencoder: AutoEncoder,
}

/// Everything of a directory but the weights themselves.
pub(crate) struct Sources {
    pub(crate) blueprint: Box<dyn Blueprint>,
    /// Of each component.
    pub(crate) shards: Vec<Shards>,
}

/// A kind of model.
pub(crate) struct Architecture {
    /// The pipeline that `model_index.json` names.
    pub(crate) pipeline: &'static str,
    /// What the name of the publisher's single file begins with, which may come without an index.
    pub(crate) single_file: &'static str,
    /// What that file calls the transformer's tensors; LoRAs may call its layers so too.
    pub(crate) renaming: &'static Renaming,
    pub(crate) read: fn(&mut Directory, Option<&ModelIndex>) -> Result<Sources>,
}
