//! Tiles of every level that this machine has against sums in f64; and the operations, as the machine
//! computes them, against the reference in f32 on the same values: ‖out − ref‖ / ‖ref‖ < 0.6%.
//! bf16 has 8 bits: one rounding of the result is 0.17% of it.

use candle_core::DType;
use half::bf16;

use super::{
    line::Line,
    packed::{pack_columns, pack_step},
    tiles::{Block, Left, Machine, Onto, SIDE, STEP, Strides, Tiles},
    *,
};
use crate::{
    operand::{GatedResidual, Kernel3x3, Mask, Modulation},
    ops::reference_of,
    reference::Reference,
};

const BOUND: f32 = 6e-3;

/// See [`super::super::random`].
fn random(seed: u64, shape: &[usize]) -> Tensor {
    super::super::random::random(seed, shape).to_dtype(DType::BF16).unwrap()
}

const REFERENCE: Reference = Reference::beside(&CpuBf16);

fn wide(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).unwrap()
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!((found.dims(), found.dtype()), (expected.dims(), DType::BF16));
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    let (error, size) = (norm(&(wide(found) - expected).unwrap()), norm(expected));
    assert!(error <= BOUND * size, "{error} of {size}");
}

fn bits(x: &Tensor) -> Vec<u16> {
    x.flatten_all().unwrap().to_vec1::<bf16>().unwrap().into_iter().map(bf16::to_bits).collect()
}

fn layer(outputs: usize, inputs: usize) -> Linear {
    let weight = (random(1, &[outputs, inputs]) * 0.2).unwrap();
    Linear::new(weight, Some(random(2, &[outputs])))
}

/// The same layer in f32.
fn widened(layer: &Linear) -> Linear {
    let weight = wide(&reference_of(&random(1, &[1])).weight(layer, DType::BF16).unwrap());
    Linear::new(weight, layer.bias.as_ref().map(wide))
}

fn convolution(outputs: usize, inputs: usize) -> Conv3x3 {
    Conv3x3::new((random(5, &[outputs, 3, 3, inputs]) * 0.2).unwrap(), random(6, &[outputs]))
}

/// Tiles that the machine has multiply as the formula does, however A lies, in the order that all share.
#[test]
fn tiles_of_every_level_multiply() {
    check_tiles(portable::Portable);
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        if let Some(tiles) = avx512::Avx512::detect() {
            check_tiles(tiles);
        }
        check_tiles(super::super::amx::software::amx());
    }
}

fn check_tiles<M: Machine>(machine: M) {
    let tiles = machine.tiles();
    for steps in [1, 2, 5] {
        let width = steps * SIDE;
        let [a, b] = [3, 4].map(|seed| random(seed, &[SIDE, width]).to_vec2::<bf16>().unwrap());
        let values = |step: usize| step * SIDE..(step + 1) * SIDE;
        let packed: Vec<_> = (0..steps).map(|step| pack_step(|i| &a[i][values(step)])).collect();
        let right: Vec<_> = (0..steps).map(|step| pack_columns(|i| &b[i][values(step)])).collect();
        let mut spread = vec![Line::ZERO; SIDE * (steps + 1)];
        for (i, row) in a.iter().enumerate() {
            for step in 0..steps {
                spread[i * (steps + 1) + step].fill(&row[values(step)]);
            }
        }
        let strides = Strides { row: steps + 1, tile: 16 * (steps + 1), step: 1 };
        let lefts =
            [Left::new(packed.as_flattened(), Strides::PACKED), Left::new(&spread, strides)];
        let [packed_sums, spread_sums] = lefts.map(|left| {
            let mut c = Block([[1.0; SIDE]; SIDE]);
            let b = right.as_flattened();
            tiles.product(left, b, &mut c, Onto::Itself, &[]);
            for (i, row) in c.0.iter().enumerate() {
                for (j, found) in row.iter().enumerate() {
                    let pairs = a[i].iter().zip(&b_row(&right, j, width)).map(product).sum::<f64>();
                    assert!((f64::from(*found) - 1.0 - pairs).abs() < 1e-4, "{found} {pairs}");
                }
            }
            tiles.product(left, b, &mut c, Onto::Zero, &[]);
            c
        });
        assert!(packed_sums.0 == spread_sums.0);
        let mut expected = Block::ZERO;
        portable::Portable.product(lefts[0], right.as_flattened(), &mut expected, Onto::Zero, &[]);
        let worst = packed_sums.0.as_flattened().iter().zip(expected.0.as_flattened());
        assert!(worst.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-4);
    }
    let mut c = Block([[1.0; SIDE]; SIDE]);
    tiles.product(Left::new(&[], Strides::PACKED), &[], &mut c, Onto::Zero, &[]);
    assert!(c.0 == Block::ZERO.0);
}

fn product((a, b): (&bf16, &bf16)) -> f64 {
    a.to_f64() * b.to_f64()
}

/// Column j of B, unpacked by hand.
fn b_row(right: &[[Line; STEP]], j: usize, width: usize) -> Vec<bf16> {
    let value = |k: usize| right[k / 32][j / 16 * 16 + k % 32 / 2].0[2 * (j % 16) + k % 2];
    (0..width).map(value).collect()
}

#[test]
#[should_panic(expected = "A ends")]
fn tiles_are_not_read_past_their_end() {
    let (a, b) = (vec![Line::ZERO; STEP], vec![Line::ZERO; 2 * STEP]);
    let mut c = Block::ZERO;
    portable::Portable.product(Left::new(&a, Strides::PACKED), &b, &mut c, Onto::Zero, &[]);
}

#[test]
fn linear_layers() {
    for (images, length, inputs, outputs) in
        [(1, 1, 3, 2), (1, 77, 64, 96), (3, 100, 130, 66), (1, 33, 600, 300)]
    {
        let x = random(3, &[images * length, inputs]);
        let residual = random(4, &[images * length, outputs]);
        let gate = random(5, &[images, outputs]);
        let (residual_f32, gate_f32) = (wide(&residual), wide(&gate));
        let biased = layer(outputs, inputs);
        let unbiased = Linear { bias: None, ..layer(outputs, inputs) };
        for layer in [biased, unbiased] {
            let (reference, packed) = (widened(&layer), crate::pack_linear(layer).unwrap());
            let gated = |gate, residual| Epilogue::GatedResidual(GatedResidual { gate, residual });
            for (then, in_f32) in [
                (Epilogue::None, Epilogue::None),
                (Epilogue::Add(&residual), Epilogue::Add(&residual_f32)),
                (gated(&gate, &residual), gated(&gate_f32, &residual_f32)),
            ] {
                let found = crate::linear(&x, &packed, then).unwrap();
                let expected = REFERENCE.linear((&wide(&x)).into(), &reference, in_f32);
                assert_close(&found, &expected.unwrap().unwrap());
            }
            for activation in [
                Activation::GeluTanh,
                Activation::GeluErf,
                Activation::QuickGelu,
                Activation::Relu,
                Activation::Silu,
            ] {
                let then = Epilogue::Activate(activation);
                let found = crate::linear(&x, &packed, then).unwrap();
                let expected = REFERENCE.linear((&wide(&x)).into(), &reference, then);
                assert_close(&found, &expected.unwrap().unwrap());
            }
            for gate in [Activation::GeluTanh, Activation::Silu] {
                let found = crate::linear_gated(&x, &packed, gate).unwrap();
                let expected = REFERENCE.linear_gated((&wide(&x)).into(), &reference, gate);
                let expected = expected.unwrap().unwrap();
                let norm = |x: &Tensor| wide(x).sqr().unwrap().sum_all().unwrap();
                let error = norm(&(wide(&found) - &expected).unwrap()).to_scalar::<f32>().unwrap();
                // Its halves are rounded before they are multiplied.
                assert!(
                    error.sqrt()
                        <= 2.0 * BOUND * norm(&expected).to_scalar::<f32>().unwrap().sqrt()
                );
            }
        }
    }
}

/// Bit by bit: which images are computed together must not show.
#[test]
fn a_row_does_not_depend_on_those_beside_it() {
    for (inputs, outputs) in [(8, 3), (700, 130), (1300, 64)] {
        let (x, layer) =
            (random(3, &[400, inputs]), crate::pack_linear(layer(outputs, inputs)).unwrap());
        let all = crate::linear(&x, &layer, Epilogue::None).unwrap().to_vec2::<bf16>().unwrap();
        for (first, count) in [(0, 1), (149, 1), (7, 2), (40, 31), (41, 32), (3, 49), (0, 397)] {
            let rows = x.narrow(0, first, count).unwrap();
            let some = crate::linear(&rows, &layer, Epilogue::None).unwrap();
            assert!(
                some.to_vec2::<bf16>().unwrap() == all[first..first + count],
                "{first} {count}"
            );
        }
    }
    let qkv = random(9, &[3 * 100, 3, 2, 16]);
    let part = |i, rows: usize, first| {
        qkv.narrow(0, first, rows).unwrap().narrow(1, i, 1).unwrap().squeeze(1).unwrap()
    };
    let heads = |first, rows, images| Heads {
        q: part(0, rows, first),
        k: part(1, rows, first),
        v: part(2, rows, first),
        images,
    };
    let all = crate::attention(&heads(0, 300, 3), Scores::scaled(16)).unwrap();
    let second = crate::attention(&heads(100, 100, 1), Scores::scaled(16)).unwrap();
    assert!(bits(&second) == bits(&all.narrow(0, 100, 100).unwrap()));
}

/// Bit by bit: packing is storage, and changes nothing that is computed.
#[test]
fn packed_weights_compute_the_same_and_come_back() {
    for (rows, inputs, outputs) in [(1, 3, 2), (5, 70, 130), (33, 64, 64), (3, 2048, 700)] {
        let x = random(3, &[rows, inputs]);
        let packed = crate::pack_linear(layer(outputs, inputs)).unwrap();
        assert!(packed.weight.tensor().is_none() && packed.outputs() == outputs);
        let [plain_y, packed_y] = [&layer(outputs, inputs), &packed]
            .map(|layer| bits(&crate::linear(&x, layer, Epilogue::None).unwrap()));
        assert!(plain_y == packed_y);
        let weight = reference_of(&x).weight(&packed, DType::BF16).unwrap();
        assert!(bits(&weight) == bits(layer(outputs, inputs).weight.tensor().unwrap()));
    }
    for (inputs, outputs) in [(3, 2), (40, 70)] {
        let packed = crate::pack_conv3x3(convolution(outputs, inputs)).unwrap();
        assert!(matches!(packed.kernel, Kernel3x3::Packed(_)));
        assert!(
            bits(&packed.weight().unwrap())
                == bits(&convolution(outputs, inputs).weight().unwrap())
        );
    }
}

#[test]
fn normalisations() {
    for (images, length, width) in [(1, 1, 16), (3, 100, 68)] {
        let x = random(3, &[images * length, width]);
        let (scale, shift) = (random(4, &[images, width]), random(5, &[images, width]));
        let (scale_f32, shift_f32) = (wide(&scale), wide(&shift));
        let found = crate::ada_layer_norm(&x, Modulation { shift: &shift, scale: &scale });
        let by = Affine::Modulation(Modulation { shift: &shift_f32, scale: &scale_f32 });
        let expected = REFERENCE.layer_norm(&wide(&x), by, 1e-6).unwrap().unwrap();
        assert_close(&found.unwrap(), &expected);
        let norm = RmsNorm { weight: random(6, &[width]), eps: 1e-6 };
        let in_f32 = RmsNorm { weight: wide(&norm.weight), eps: 1e-6 };
        let expected = REFERENCE.rms_norm(&wide(&x), &in_f32).unwrap().unwrap();
        assert_close(&crate::rms_norm(&x, &norm).unwrap(), &expected);
    }
    let x = random(3, &[19, 23, 24]);
    let norm = GroupNorm { weight: random(4, &[24]), bias: random(5, &[24]), groups: 8 };
    let in_f32 = GroupNorm { weight: wide(&norm.weight), bias: wide(&norm.bias), groups: 8 };
    for then in [None, Some(Activation::Silu)] {
        let expected = REFERENCE.group_norm(&wide(&x), &in_f32, then).unwrap().unwrap();
        assert_close(&crate::group_norm(&x, &norm, then).unwrap(), &expected);
    }
}

#[test]
fn heads_of_two_streams() {
    let width = 16;
    let norms = [4, 5, 6, 7].map(|seed| random(seed, &[width]));
    let angles = wide(&random(10, &[40, width / 2]));
    let rotations = Rotations { cos: angles.cos().unwrap(), sin: angles.sin().unwrap() };
    let (text, image) = (random(8, &[2 * 7, 3 * 48]), random(9, &[2 * 33, 3 * 48]));
    let heads = |widen: fn(&Tensor) -> Tensor, on: &dyn Backend| {
        let norms: Vec<_> =
            norms.iter().map(|weight| RmsNorm { weight: widen(weight), eps: 1e-6 }).collect();
        let streams = [
            Stream { qkv: &widen(&text), norm_q: &norms[0], norm_k: &norms[1] },
            Stream { qkv: &widen(&image), norm_q: &norms[2], norm_k: &norms[3] },
        ];
        on.qk_norm_rope(&streams, &rotations).unwrap().unwrap()
    };
    let (found, expected) = (heads(Tensor::clone, &CpuBf16), heads(wide, &REFERENCE));
    assert_close(&found.q, &expected.q);
    assert_close(&found.k, &expected.k);
    assert_close(&found.v, &expected.v);
}

#[test]
fn attentions() {
    for (images, length, count, width) in
        [(1, 1, 1, 8), (1, 77, 4, 64), (1, 300, 3, 40), (3, 100, 2, 128), (1, 257, 1, 512)]
    {
        let qkv = random(3, &[images * length, 3, count, width]);
        // Views with the heads of q, k and v side by side, as the encoders have them.
        let part = |x: &Tensor, i| x.narrow(1, i, 1).unwrap().squeeze(1).unwrap();
        let heads = |x: &Tensor| Heads { q: part(x, 0), k: part(x, 1), v: part(x, 2), images };
        let bias = wide(&random(4, &[count, length, length]));
        for mask in [Mask::None, Mask::Causal, Mask::Bias(&bias)] {
            let scores = Scores { mask, ..Scores::scaled(width) };
            let expected = REFERENCE.attention(&heads(&wide(&qkv)), scores).unwrap().unwrap();
            assert_close(&crate::attention(&heads(&qkv), scores).unwrap(), &expected);
        }
        let (x, mlp) = (random(5, &[images * length, 24]), layer(56, 24));
        let in_f32 = widened(&mlp);
        let expected = REFERENCE
            .attention_beside_mlp(&heads(&wide(&qkv)), (&wide(&x)).into(), &in_f32)
            .unwrap()
            .unwrap();
        let found = crate::attention_beside_mlp(&heads(&qkv), &x, &mlp).unwrap();
        assert_close(&found, &expected);
    }
}

#[test]
fn attention_survives_large_scores() {
    let part = |seed| (random(seed, &[40, 1, 8]) * 100.0).unwrap();
    let heads = Heads { q: part(1), k: part(2), v: random(3, &[40, 1, 8]), images: 1 };
    let in_f32 = Heads { q: wide(&heads.q), k: wide(&heads.k), v: wide(&heads.v), images: 1 };
    let expected = REFERENCE.attention(&in_f32, Scores::scaled(8)).unwrap().unwrap();
    assert_close(&crate::attention(&heads, Scores::scaled(8)).unwrap(), &expected);
}

#[test]
fn convolutions() {
    for (height, width, inputs, outputs) in
        [(1, 1, 3, 2), (5, 3, 16, 3), (33, 70, 24, 40), (9, 40, 96, 288)]
    {
        let x = random(3, &[height, width, inputs]);
        let residual = random(4, &[height, width, outputs]);
        let residual_f32 = wide(&residual);
        let conv = convolution(outputs, inputs);
        let in_f32 = Conv3x3::new(wide(&conv.weight().unwrap()), wide(&conv.bias));
        let conv = crate::pack_conv3x3(conv).unwrap();
        for (form, reference) in [
            (ConvForm::Plain, ConvForm::Plain),
            (ConvForm::Add(&residual), ConvForm::Add(&residual_f32)),
            (ConvForm::Upsampled, ConvForm::Upsampled),
        ] {
            let expected = REFERENCE.conv3x3(&wide(&x), &in_f32, reference).unwrap().unwrap();
            assert_close(&crate::conv3x3(&x, &conv, form).unwrap(), &expected);
        }
    }
}

/// What does not fit together is an error, not a wrong image.
#[test]
fn shapes_and_types_that_do_not_agree_are_refused() {
    let x = random(1, &[5, 8]);
    let two = random(2, &[2, 8]);
    let then = Epilogue::GatedResidual(GatedResidual { gate: &two, residual: &x });
    assert!(crate::linear(&x, &layer(8, 8), then).is_err());
    assert!(crate::linear(&x, &layer(8, 9), Epilogue::None).is_err());
    assert!(crate::linear(&x, &layer(8, 8), Epilogue::Add(&two)).is_err());
    assert!(
        crate::linear(&wide(&x), &crate::pack_linear(layer(8, 8)).unwrap(), Epilogue::None)
            .is_err()
    );
    assert!(
        crate::linear(&x, &crate::pack_linear(widened(&layer(8, 8))).unwrap(), Epilogue::None)
            .is_err()
    );
    assert!(crate::conv3x3(&random(1, &[4, 4, 8]), &convolution(8, 16), ConvForm::Plain).is_err());
    let part = || random(3, &[5, 1, 8]);
    let heads = Heads { q: part(), k: part(), v: part(), images: 2 };
    assert!(crate::attention(&heads, Scores::scaled(8)).is_err());
}
