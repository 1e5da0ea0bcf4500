//! Each kernel against its composed reference, on random input: ‖out − ref‖ / ‖ref‖ < 1e-5.

use candle_core::{Result, Tensor};

use super::{random::random, *};
use crate::{
    operand::{Kernel3x3, LayerNorm, Mask, Modulation},
    ops::reference_of,
    reference::Reference,
};

const BOUND: f32 = 1e-5;

fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims());
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    // Of what is all zero, as relu's may be, nothing may be off.
    let (error, size) = (norm(&(found - expected).unwrap()), norm(expected));
    assert!(error <= BOUND * size, "{error} of {size}");
}

/// The CPU's kernel and the reference agree.
fn agree(op: impl Fn(&dyn Backend) -> Result<Option<Tensor>>) {
    assert_close(&op(&Cpu).unwrap().unwrap(), &op(&Reference::beside(&Cpu)).unwrap().unwrap());
}

fn bits(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn layer(outputs: usize, inputs: usize) -> Linear {
    let weight = (random(1, &[outputs, inputs]) * 0.2).unwrap();
    Linear::new(weight, Some(random(2, &[outputs])))
}

fn unbiased(outputs: usize, inputs: usize) -> Linear {
    Linear { bias: None, ..layer(outputs, inputs) }
}

fn convolution(outputs: usize, inputs: usize) -> Conv3x3 {
    Conv3x3::new(random(5, &[outputs, 3, 3, inputs]), random(6, &[outputs]))
}

#[test]
fn linear_layers() {
    for (images, length, inputs, outputs) in [(1, 1, 3, 2), (1, 77, 64, 96), (3, 100, 130, 66)] {
        let x = random(3, &[images * length, inputs]);
        let residual = random(4, &[images * length, outputs]);
        let gate = random(5, &[images, outputs]);
        for layer in [layer(outputs, inputs), unbiased(outputs, inputs)] {
            for then in [
                Epilogue::None,
                Epilogue::Activate(Activation::GeluTanh),
                Epilogue::Activate(Activation::GeluErf),
                Epilogue::Activate(Activation::QuickGelu),
                Epilogue::Activate(Activation::Relu),
                Epilogue::Activate(Activation::Silu),
                Epilogue::Add(&residual),
                Epilogue::GatedResidual(crate::GatedResidual { gate: &gate, residual: &residual }),
            ] {
                agree(|on| on.linear((&x).into(), &layer, then));
            }
            for gate in [Activation::GeluTanh, Activation::Silu] {
                agree(|on| on.linear_gated((&x).into(), &layer, gate));
            }
        }
    }
}

/// Bit by bit: which images are computed together must not show.
#[test]
fn a_row_does_not_depend_on_those_beside_it() {
    for (inputs, outputs) in [(8, 3), (700, 130), (1300, 64)] {
        let (x, layer) = (random(3, &[150, inputs]), layer(outputs, inputs));
        let all = crate::linear(&x, &layer, Epilogue::None).unwrap().to_vec2::<f32>().unwrap();
        for (first, count) in [(0, 1), (149, 1), (7, 2), (40, 31), (41, 32), (3, 49), (0, 97)] {
            let rows = x.narrow(0, first, count).unwrap();
            let some = crate::linear(&rows, &layer, Epilogue::None).unwrap();
            assert!(some.to_vec2::<f32>().unwrap() == all[first..first + count], "{first} {count}");
        }
    }
}

/// Bit by bit: packing is storage, and changes nothing that is computed.
#[test]
fn packed_weights_compute_the_same_and_come_back() {
    for (rows, inputs, outputs) in [(1, 3, 2), (5, 70, 130), (77, 130, 66), (33, 64, 64)] {
        let x = random(3, &[rows, inputs]);
        let packed = crate::pack_linear(layer(outputs, inputs)).unwrap();
        assert!(packed.weight.tensor().is_none() && packed.outputs() == outputs);
        let [plain_y, packed_y] = [&layer(outputs, inputs), &packed]
            .map(|layer| bits(&crate::linear(&x, layer, Epilogue::None).unwrap()));
        assert!(plain_y == packed_y);
        let weight = reference_of(&x).weight(&packed, candle_core::DType::F32).unwrap();
        assert!(bits(&weight) == bits(layer(outputs, inputs).weight.tensor().unwrap()));
        agree(|on| on.linear((&x).into(), &packed, Epilogue::None));
    }
    for (inputs, outputs) in [(3, 2), (24, 40)] {
        let x = random(3, &[9, 14, inputs]);
        let packed = crate::pack_conv3x3(convolution(outputs, inputs)).unwrap();
        assert!(matches!(packed.kernel, Kernel3x3::Packed(_)));
        let [plain_y, packed_y] = [&convolution(outputs, inputs), &packed]
            .map(|conv| bits(&crate::conv3x3(&x, conv, ConvForm::Plain).unwrap()));
        assert!(plain_y == packed_y);
        let weight = convolution(outputs, inputs).weight().unwrap();
        assert_close(&packed.weight().unwrap(), &weight);
    }
}

/// Layers of one input are one, and those that are stored differently are refused.
#[test]
fn layers_are_stacked() {
    let x = random(3, &[40, 24]);
    let both = Linear::stack(&[layer(8, 24), layer(16, 24)]).unwrap();
    let parts = [layer(8, 24), layer(16, 24)]
        .map(|layer| crate::linear(&x, &layer, Epilogue::None).unwrap());
    let expected = Tensor::cat(&parts, 1).unwrap();
    assert_close(&crate::linear(&x, &both, Epilogue::None).unwrap(), &expected);
    assert!(Linear::stack(&[layer(8, 24), crate::pack_linear(layer(16, 24)).unwrap()]).is_err());
    // What 8 bits need is not here, and says so.
    let error = crate::quantise_linear(layer(8, 24)).err().unwrap().to_string();
    assert!(error.contains("on no GPU"), "{error}");
}

#[test]
fn normalisations_of_tokens() {
    for (images, length, width) in [(1, 1, 16), (1, 77, 100), (3, 100, 64)] {
        // Far from zero, so that a careless variance would show.
        let x = (random(3, &[images * length, width]) + 5.0).unwrap();
        let (scale, shift) = (random(4, &[images, width]), random(5, &[images, width]));
        let by = Modulation { shift: &shift, scale: &scale };
        agree(|on| on.layer_norm(&x, Affine::Modulation(by), 1e-6));
        let (weight, bias) = (random(6, &[width]), random(7, &[width]));
        let affine = Affine::Weights { weight: &weight, bias: &bias };
        agree(|on| on.layer_norm(&x, affine, 1e-5));
        let norm = LayerNorm { weight: weight.clone(), bias: bias.clone(), eps: 1e-5 };
        let expected = Cpu.layer_norm(&x, affine, 1e-5).unwrap().unwrap();
        assert!(bits(&crate::layer_norm(&x, &norm).unwrap()) == bits(&expected));
        let norm = RmsNorm { weight, eps: 1e-6 };
        agree(|on| on.rms_norm(&x, &norm));
    }
}

#[test]
fn normalisations_of_images() {
    for (height, width, channels, groups) in [(1, 1, 8, 2), (19, 23, 24, 8), (40, 40, 32, 32)] {
        let x = (random(3, &[height, width, channels]) + 2.0).unwrap();
        let norm =
            GroupNorm { weight: random(4, &[channels]), bias: random(5, &[channels]), groups };
        for then in [None, Some(Activation::Silu)] {
            agree(|on| on.group_norm(&x, &norm, then));
        }
        // What has no kernel is the reference's.
        assert!(Cpu.group_norm(&x, &norm, Some(Activation::Relu)).unwrap().is_none());
        assert!(crate::group_norm(&x, &norm, Some(Activation::Relu)).is_ok());
    }
}

#[test]
fn heads_of_two_streams() {
    let (count, width) = (3, 16);
    let norms = [4, 5, 6, 7].map(|seed| RmsNorm { weight: random(seed, &[width]), eps: 1e-6 });
    let angles = (random(10, &[40, width / 2]) * 3.0).unwrap();
    let rotations = Rotations { cos: angles.cos().unwrap(), sin: angles.sin().unwrap() };
    for images in [1, 3] {
        let text = random(8, &[images * 7, 3 * 48]);
        let image = random(9, &[images * 33, 3 * 48]);
        let streams = [
            Stream { qkv: &text, norm_q: &norms[0], norm_k: &norms[1] },
            Stream { qkv: &image, norm_q: &norms[2], norm_k: &norms[3] },
        ];
        let of = |on: &dyn Backend| on.qk_norm_rope(&streams, &rotations).unwrap().unwrap();
        let (found, expected) = (of(&Cpu), of(&Reference::beside(&Cpu)));
        assert_eq!(found.images, images);
        assert_eq!(found.q.dims(), [images * 40, count, width]);
        assert_close(&found.q, &expected.q);
        assert_close(&found.k, &expected.k);
        assert_close(&found.v, &expected.v);
    }
}

#[test]
fn attentions() {
    for (images, length, count, width) in
        [(1, 1, 1, 8), (1, 77, 4, 16), (1, 300, 3, 40), (1, 257, 1, 64), (3, 100, 2, 16)]
    {
        let qkv = random(3, &[images * length, 3, count, width]);
        // Views with the heads of q, k and v side by side, as the encoders have them.
        let part = |i| qkv.narrow(1, i, 1).unwrap().squeeze(1).unwrap();
        let heads = Heads { q: part(0), k: part(1), v: part(2), images };
        let bias = random(4, &[count, length, length]);
        for mask in [Mask::None, Mask::Causal, Mask::Bias(&bias)] {
            agree(|on| on.attention(&heads, Scores { mask, ..Scores::scaled(width) }));
        }
        let x = random(5, &[images * length, 24]);
        let mlp = layer(56, 24);
        agree(|on| on.attention_beside_mlp(&heads, (&x).into(), &mlp));
    }
}

/// What is said wrongly of images is an error, not a wrong image.
#[test]
fn rows_of_a_part_of_an_image_are_refused() {
    let x = random(1, &[5, 8]);
    let two = random(2, &[2, 8]);
    assert!(crate::ada_layer_norm(&x, Modulation { shift: &two, scale: &two }).is_err());
    let then = Epilogue::GatedResidual(crate::GatedResidual { gate: &two, residual: &x });
    assert!(crate::linear(&x, &layer(8, 8), then).is_err());
    let part = || random(3, &[5, 1, 8]);
    let heads = Heads { q: part(), k: part(), v: part(), images: 2 };
    assert!(crate::attention(&heads, Scores::scaled(8)).is_err());
    assert!(crate::conv3x3(&random(1, &[4, 4, 8]), &convolution(8, 16), ConvForm::Plain).is_err());
    let angles = Rotations { cos: random(1, &[4, 4]), sin: random(1, &[4, 4]) };
    assert!(crate::qk_norm_rope(&[], &angles).is_err());
}

#[test]
fn attention_survives_large_scores() {
    let heads = Heads {
        q: (random(1, &[40, 1, 8]) * 100.0).unwrap(),
        k: (random(2, &[40, 1, 8]) * 100.0).unwrap(),
        v: random(3, &[40, 1, 8]),
        images: 1,
    };
    agree(|on| on.attention(&heads, Scores::scaled(8)));
}

#[test]
fn convolutions() {
    for (height, width, inputs, outputs) in [(1, 1, 3, 2), (5, 3, 16, 3), (33, 70, 24, 40)] {
        let x = random(3, &[height, width, inputs]);
        let residual = random(4, &[height, width, outputs]);
        let conv = convolution(outputs, inputs);
        for form in [ConvForm::Plain, ConvForm::Add(&residual), ConvForm::Upsampled] {
            agree(|on| on.conv3x3(&x, &conv, form));
        }
    }
}

#[test]
fn wiping_leaves_zeros() {
    let x = random(1, &[5, 7]);
    crate::wipe(&x).unwrap();
    assert_eq!(bits(&x), [0.0; 35]);
}
