//! Each kernel against its composed reference, on random input: ‖out − ref‖ / ‖ref‖ < 1e-5.

use candle_core::{Device, Result, Tensor};
use protocol::Seed;

use super::*;
use crate::noise;

const BOUND: f32 = 1e-5;

/// Normally distributed, another for every call with another seed.
fn random(seed: u64, shape: &[usize]) -> Tensor {
    let values = noise::normal(Seed::new(seed), shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn assert_close(found: Result<Tensor>, expected: Result<Tensor>) {
    let (found, expected) = (found.unwrap(), expected.unwrap());
    assert_eq!(found.dims(), expected.dims());
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    let error = norm(&(found - &expected).unwrap()) / norm(&expected);
    assert!(error < BOUND, "{error}");
}

fn layer(outputs: usize, inputs: usize) -> Linear {
    let weight = (random(1, &[outputs, inputs]) * 0.2).unwrap();
    Linear { weight, bias: Some(random(2, &[outputs])), row_scales: None }
}

fn unbiased(outputs: usize, inputs: usize) -> Linear {
    Linear { bias: None, ..layer(outputs, inputs) }
}

#[test]
fn linear_layers() {
    for (pictures, length, inputs, outputs) in [(1, 1, 3, 2), (1, 77, 64, 96), (3, 100, 130, 66)] {
        let x = random(3, &[pictures * length, inputs]);
        let onto = random(4, &[pictures * length, outputs]);
        let gate = random(5, &[pictures, outputs]);
        for layer in [layer(outputs, inputs), unbiased(outputs, inputs)] {
            assert_close(cpu::linear((&x).into(), &layer), reference::linear((&x).into(), &layer));
            for act in [
                Activation::GeluTanh,
                Activation::GeluErf,
                Activation::QuickGelu,
                Activation::Relu,
                Activation::Silu,
            ] {
                assert_close(
                    cpu::linear_activated((&x).into(), &layer, act),
                    reference::linear_activated((&x).into(), &layer, act),
                );
            }
            assert_close(
                cpu::linear_gated_gelu(&x, &layer),
                reference::linear_gated_gelu(&x, &layer),
            );
            assert_close(
                cpu::linear_onto(&x, &layer, &onto),
                reference::linear_onto(&x, &layer, &onto),
            );
            let gated = Gated { onto: &onto, gate: &gate };
            assert_close(
                cpu::linear_gated(&x, &layer, &gated),
                reference::linear_gated(&x, &layer, &gated),
            );
        }
    }
}

/// Bit by bit: which pictures are drawn together must not show.
#[test]
fn a_row_does_not_depend_on_those_beside_it() {
    for (inputs, outputs) in [(8, 3), (700, 130), (1300, 64)] {
        let (x, layer) = (random(3, &[150, inputs]), layer(outputs, inputs));
        let all = cpu::linear((&x).into(), &layer).unwrap().to_vec2::<f32>().unwrap();
        for (first, count) in [(0, 1), (149, 1), (7, 2), (40, 31), (41, 32), (3, 49), (0, 97)] {
            let rows = x.narrow(0, first, count).unwrap();
            let some = cpu::linear((&rows).into(), &layer).unwrap();
            assert!(some.to_vec2::<f32>().unwrap() == all[first..first + count], "{first} {count}");
        }
    }
}

#[test]
fn normalisations_of_tokens() {
    for (pictures, length, width) in [(1, 1, 16), (1, 77, 100), (3, 100, 64)] {
        // Far from zero, so that a careless variance would show.
        let x = (random(3, &[pictures * length, width]) + 5.0).unwrap();
        let (scale, shift) = (random(4, &[pictures, width]), random(5, &[pictures, width]));
        let by = Shift { shift: &shift, scale: &scale };
        assert_close(cpu::layer_norm_shift(&x, &by), reference::layer_norm_shift(&x, &by));
        let (weight, bias) = (random(6, &[width]), random(7, &[width]));
        let norm = LayerNorm { weight: weight.clone(), bias, eps: 1e-5 };
        assert_close(cpu::layer_norm(&x, &norm), reference::layer_norm(&x, &norm));
        let norm = RmsNorm { weight, eps: 1e-6 };
        assert_close(cpu::rms_norm(&x, &norm), reference::rms_norm(&x, &norm));
    }
}

#[test]
fn normalisations_of_pictures() {
    for (height, width, channels, groups) in [(1, 1, 8, 2), (19, 23, 24, 8), (40, 40, 32, 32)] {
        let x = (random(3, &[height, width, channels]) + 2.0).unwrap();
        let norm =
            GroupNorm { weight: random(4, &[channels]), bias: random(5, &[channels]), groups };
        assert_close(cpu::group_norm(&x, &norm), reference::group_norm(&x, &norm));
        assert_close(cpu::group_norm_silu(&x, &norm), reference::group_norm_silu(&x, &norm));
    }
}

#[test]
fn heads_of_two_streams() {
    let (count, width) = (3, 16);
    let norms = [4, 5, 6, 7].map(|seed| RmsNorm { weight: random(seed, &[width]), eps: 1e-6 });
    let angles = (random(10, &[40, width / 2]) * 3.0).unwrap();
    let rotations = Rotations { cos: angles.cos().unwrap(), sin: angles.sin().unwrap() };
    for pictures in [1, 3] {
        let text = random(8, &[pictures * 7, 3 * 48]);
        let picture = random(9, &[pictures * 33, 3 * 48]);
        let streams = [
            Stream { qkv: &text, norm_q: &norms[0], norm_k: &norms[1] },
            Stream { qkv: &picture, norm_q: &norms[2], norm_k: &norms[3] },
        ];
        let found = cpu::join_heads(&streams, &rotations).unwrap();
        let expected = reference::join_heads(&streams, &rotations).unwrap();
        assert_eq!(found.pictures, pictures);
        assert_eq!(found.q.dims(), [pictures * 40, count, width]);
        assert_close(Ok(found.q), Ok(expected.q));
        assert_close(Ok(found.k), Ok(expected.k));
        assert_close(Ok(found.v), Ok(expected.v));
    }
}

#[test]
fn attentions() {
    for (pictures, length, count, width) in
        [(1, 1, 1, 8), (1, 77, 4, 16), (1, 300, 3, 40), (1, 257, 1, 64), (3, 100, 2, 16)]
    {
        let qkv = random(3, &[pictures * length, 3, count, width]);
        // Views with the heads of q, k and v side by side, as the encoders have them.
        let part = |i| qkv.narrow(1, i, 1).unwrap().squeeze(1).unwrap();
        let heads = Heads { q: part(0), k: part(1), v: part(2), pictures };
        let bias = random(4, &[count, length, length]);
        for mask in [Mask::None, Mask::Causal, Mask::Bias(&bias)] {
            let scores = Scores { mask, ..Scores::scaled(width) };
            assert_close(cpu::attention(&heads, &scores), reference::attention(&heads, &scores));
        }
        let x = random(5, &[pictures * length, 24]);
        let mlp = layer(56, 24);
        assert_close(
            cpu::attention_beside_mlp(&heads, (&x).into(), &mlp),
            reference::attention_beside_mlp(&heads, (&x).into(), &mlp),
        );
    }
}

/// What is said wrongly of pictures is an error, not a wrong picture.
#[test]
fn rows_of_a_part_of_a_picture_are_refused() {
    let x = random(1, &[5, 8]);
    let two = random(2, &[2, 8]);
    let by = Shift { shift: &two, scale: &two };
    assert!(layer_norm_shift(&x, &by).is_err());
    assert!(linear_gated(&x, &layer(8, 8), &Gated { onto: &x, gate: &two }).is_err());
    let part = || random(3, &[5, 1, 8]);
    let heads = Heads { q: part(), k: part(), v: part(), pictures: 2 };
    assert!(attention(&heads, &Scores::scaled(8)).is_err());
}

#[test]
fn attention_survives_large_scores() {
    let heads = Heads {
        q: (random(1, &[40, 1, 8]) * 100.0).unwrap(),
        k: (random(2, &[40, 1, 8]) * 100.0).unwrap(),
        v: random(3, &[40, 1, 8]),
        pictures: 1,
    };
    let scores = Scores::scaled(8);
    assert_close(cpu::attention(&heads, &scores), reference::attention(&heads, &scores));
}

#[test]
fn convolutions() {
    for (height, width, inputs, outputs) in [(1, 1, 3, 2), (5, 3, 16, 3), (33, 70, 24, 40)] {
        let x = random(3, &[height, width, inputs]);
        let onto = random(4, &[height, width, outputs]);
        let conv =
            Conv3x3 { weight: random(5, &[outputs, 3, 3, inputs]), bias: random(6, &[outputs]) };
        assert_close(cpu::conv3x3(&x, &conv), reference::conv3x3(&x, &conv));
        assert_close(
            cpu::conv3x3_onto(&x, &conv, &onto),
            reference::conv3x3_onto(&x, &conv, &onto),
        );
        assert_close(cpu::upsample_conv3x3(&x, &conv), reference::upsample_conv3x3(&x, &conv));
    }
}

#[test]
fn wiping_leaves_zeros() {
    let x = random(1, &[5, 7]);
    wipe(&x).unwrap();
    assert_eq!(x.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0.0; 35]);
}
