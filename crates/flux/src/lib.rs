//! FLUX.1 text-to-image on candle tensors: encoders, transformer, sampler, autoencoder.
