//! How many bytes a model's weights take in each precision.

use kernels::Precision;

use crate::{dimensions::Dimensions, role::Role};

/// Bytes of weights as they are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightBytes {
    pub(crate) text_encoders: u64,
    pub(crate) transformer_and_autoencoder: u64,
}

impl WeightBytes {
    /// From what components are for, and how many values each has, whatever type those had in files.
    pub(crate) fn of_values(
        components: impl IntoIterator<Item = (Role, u64)>,
        dimensions: &Dimensions,
        precision: Precision,
        on_gpu: bool,
    ) -> Self {
        let [mut text, mut transformer, mut autoencoder] = [0u64; 3];
        for (role, values) in components {
            let sum = match role {
                Role::TextEncoder => &mut text,
                Role::Transformer => &mut transformer,
                Role::AutoEncoder => &mut autoencoder,
            };
            *sum = sum.saturating_add(values);
        }
        let each = precision.dtype().size_in_bytes() as u64;
        let whole = |values: u64| values.saturating_mul(each);
        let (text_encoders, transformer) = match precision {
            Precision::F32 | Precision::Bf16 => (whole(text), whole(transformer)),
            // A byte instead of two. The scales, one for each row, are a thousandth of that.
            Precision::Fp8 => {
                (whole(text), whole(transformer).saturating_sub(dimensions.block_values))
            }
            Precision::Int8 => {
                let embeddings = dimensions.embedding_values.min(text);
                (whole(embeddings) + in_int8(text - embeddings), in_int8(transformer))
            }
        };
        let autoencoder = match precision {
            Precision::F32 | Precision::Int8 if !on_gpu => transformed(whole(autoencoder)),
            _ => whole(autoencoder),
        };
        Self { text_encoders, transformer_and_autoencoder: transformer + autoencoder }
    }

    /// Of all of them.
    pub(crate) fn all(&self) -> u64 {
        self.text_encoders.saturating_add(self.transformer_and_autoencoder)
    }
}

/// Values in 8-bit integers, with four bytes of a scale for each 256 of them.
fn in_int8(values: u64) -> u64 {
    values.saturating_add(values / 64)
}

/// A CPU keeps 3×3 kernels in f32 as 4×4 ones.
fn transformed(kernels: u64) -> u64 {
    kernels / 9 * 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::Preset, bench::dimensions_of};

    /// CLIP's and T5's values, the transformer's, and the decoder's.
    const SCHNELL: [(Role, u64); 4] = [
        (Role::TextEncoder, 123_060_480),
        (Role::TextEncoder, 4_762_310_656),
        (Role::Transformer, 11_891_178_560),
        (Role::AutoEncoder, 49_545_475),
    ];

    fn schnell(precision: Precision, on_gpu: bool) -> WeightBytes {
        let dimensions = dimensions_of(Preset::Schnell).unwrap();
        WeightBytes::of_values(SCHNELL, &dimensions, precision, on_gpu)
    }

    #[test]
    fn flux_takes_two_bytes_a_value_on_a_gpu_and_four_on_a_cpu() {
        let gigabytes = |weights: WeightBytes| weights.all() as f64 / 1e9;
        assert!((gigabytes(schnell(Precision::Bf16, true)) - 33.65).abs() < 0.01);
        assert!((gigabytes(schnell(Precision::F32, false)) - 67.46).abs() < 0.01);
        assert!((gigabytes(schnell(Precision::Int8, false)) - 17.89).abs() < 0.05);
        assert_eq!(
            schnell(Precision::Bf16, false).text_encoders,
            2 * (123_060_480 + 4_762_310_656)
        );
    }

    #[test]
    fn a_cpu_keeps_kernels_of_the_autoencoder_transformed() {
        let dimensions = dimensions_of(Preset::Schnell).unwrap();
        let of = |precision, on_gpu| {
            let components = [(Role::Transformer, 90), (Role::AutoEncoder, 9)];
            WeightBytes::of_values(components, &dimensions, precision, on_gpu).all()
        };
        assert_eq!(of(Precision::F32, true), 396);
        assert_eq!(of(Precision::F32, false), 360 + 64);
        assert_eq!(of(Precision::Bf16, false), 180 + 18);
    }

    /// Of 11.9 billion values, 8.6 are the blocks' layers.
    #[test]
    fn in_8_bits_the_blocks_are_half_as_large() {
        let saved = schnell(Precision::Bf16, true).transformer_and_autoencoder
            - schnell(Precision::Fp8, true).transformer_and_autoencoder;
        assert_eq!(saved, 76 * 12 * 3072 * 3072);
        let text = |precision| schnell(precision, true).text_encoders;
        assert_eq!(text(Precision::Bf16), text(Precision::Fp8));
    }
}
