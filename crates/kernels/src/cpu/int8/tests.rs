use candle_core::DType;

use super::{super::random::random, *};
use crate::{
    Activation, Epilogue, GatedResidual, Heads, Linear, Scores, Weight,
    backend::Backend,
    cpu::Cpu,
    ops::{pack_linear, quantise_int8},
    reference::Reference,
};

fn norm(x: &Tensor) -> f32 {
    x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt()
}

/// ‖found − expected‖ / ‖expected‖
fn distance(found: &Tensor, expected: &Tensor) -> f32 {
    norm(&(found - expected).unwrap()) / norm(expected)
}

fn layer(outputs: usize, inputs: usize) -> Linear {
    let weight = quantise_int8(&(random(1, &[outputs, inputs]) * 0.2).unwrap()).unwrap();
    Linear { weight: Weight::Int8(weight), bias: Some(random(2, &[outputs])) }
}

/// The same, packed for each way to multiply that this machine has.
fn packed(outputs: usize, inputs: usize) -> Vec<(Registers, Linear)> {
    let pack = |registers| {
        let Linear { weight: Weight::Int8(weight), bias } = layer(outputs, inputs) else {
            unreachable!("a layer in 8 bits")
        };
        let panels = Int8Panels::for_registers(&weight, registers).unwrap();
        (registers, Linear { weight: Weight::Packed(Arc::new(panels)), bias })
    };
    Registers::all().into_iter().map(pack).collect()
}

#[test]
fn a_weight_keeps_what_eight_bits_hold() {
    for (outputs, inputs) in [(1, 1), (3, 257), (40, 512), (17, 700)] {
        for dtype in [DType::F32, DType::BF16] {
            let weight = random(1, &[outputs, inputs]).to_dtype(dtype).unwrap();
            let quantised = quantise(&weight).unwrap();
            let expected = weight.to_dtype(DType::F32).unwrap();
            for registers in Registers::all() {
                let panels = Int8Panels::for_registers(&quantised, registers).unwrap();
                let off = distance(&panels.to_tensor().unwrap(), &expected);
                assert!(off < 1e-2, "{registers:?} {outputs}x{inputs} {dtype:?}: {off}");
            }
        }
    }
}

#[test]
fn products_and_what_follows_them_are_those_of_the_weight_that_is_kept() {
    for (images, length, inputs, outputs) in [(1, 1, 3, 2), (1, 77, 64, 96), (3, 100, 1301, 66)] {
        let x = random(3, &[images * length, inputs]);
        let residual = random(4, &[images * length, outputs]);
        let gate = random(5, &[images, outputs]);
        let (layer, here) = (layer(outputs, inputs), pack_linear(layer(outputs, inputs)).unwrap());
        for then in [
            Epilogue::None,
            Epilogue::Activate(Activation::GeluTanh),
            Epilogue::Add(&residual),
            Epilogue::GatedResidual(GatedResidual { gate: &gate, residual: &residual }),
        ] {
            let expected =
                Reference::beside(&Cpu).linear((&x).into(), &layer, then).unwrap().unwrap();
            for (registers, packed) in packed(outputs, inputs) {
                let found = Cpu.linear((&x).into(), &packed, then).unwrap().unwrap();
                // x has 15 bits and a sign, or 7 and a sign.
                let most = if registers == Registers::Pairs { 1e-4 } else { 1e-2 };
                let off = distance(&found, &expected);
                assert!(off < most, "{registers:?}: {length}x{inputs} to {outputs}: {off}");
            }
            let found = Cpu.linear((&x).into(), &here, then).unwrap().unwrap();
            let unpacked = Cpu.linear((&x).into(), &layer, then).unwrap().unwrap();
            assert_eq!(distance(&unpacked, &found), 0.0);
        }
    }
}

/// Bit by bit: which images are computed together must not show.
#[test]
fn a_row_does_not_depend_on_those_beside_it() {
    let x = random(3, &[150, 700]);
    for (registers, layer) in packed(130, 700) {
        let all = crate::linear(&x, &layer, Epilogue::None).unwrap().to_vec2::<f32>().unwrap();
        for (first, count) in [(0, 1), (149, 1), (7, 2), (40, 31), (3, 49), (0, 97)] {
            let rows = x.narrow(0, first, count).unwrap();
            let some = crate::linear(&rows, &layer, Epilogue::None).unwrap();
            let some = some.to_vec2::<f32>().unwrap();
            assert!(some == all[first..first + count], "{registers:?} {first} {count}");
        }
    }
}

/// Those whose rows have 8 bits, of inputs that are multiplied in one go.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn tiles_and_vectors_make_the_same_sums() {
    let x = random(3, &[77, 1000]);
    let of_8_bits = packed(70, 1000).into_iter().filter(|(registers, _)| registers.values() == 4);
    let sums: Vec<_> = of_8_bits
        .map(|(_, layer)| crate::linear(&x, &layer, Epilogue::None).unwrap().to_vec2::<f32>())
        .map(|sums| sums.unwrap())
        .collect();
    assert!(sums.windows(2).all(|two| two[0] == two[1]));
}

#[test]
fn what_is_no_number_stays_none_and_nothing_else_does() {
    let mut rows = vec![0.5f32; 3 * 300];
    rows[300 + 7] = f32::NAN;
    rows[2 * 300 + 299] = f32::INFINITY;
    let x = Tensor::from_vec(rows, (3, 300), &Device::Cpu).unwrap();
    let zeros = Tensor::zeros((2, 300), DType::F32, &Device::Cpu).unwrap();
    for (_, layer) in packed(5, 300) {
        let y = crate::linear(&x, &layer, Epilogue::None).unwrap().to_vec2::<f32>().unwrap();
        assert!(y[0].iter().all(|y| y.is_finite()));
        assert!(y[1].iter().chain(&y[2]).all(|y| y.is_nan()));
        let unbiased = Linear { bias: None, ..layer };
        let y = crate::linear(&zeros, &unbiased, Epilogue::None).unwrap();
        assert_eq!(norm(&y), 0.0);
        // Too small for what would fill the steps to be finite.
        let tiny = zeros.affine(0.0, 1e-37).unwrap();
        assert!(norm(&crate::linear(&tiny, &unbiased, Epilogue::None).unwrap()).is_finite());
    }
}

#[test]
fn layers_are_stacked_and_cut_in_8_bits() {
    let (one, other) = (layer(5, 300), layer(18, 300));
    let x = random(3, &[4, 300]);
    let whole = Linear::stack(&[layer(5, 300), layer(18, 300)]).unwrap();
    let y = crate::linear(&x, &whole, Epilogue::None).unwrap();
    for (first, layer) in [(0, &one), (5, &other)] {
        let part = y.narrow(1, first, layer.outputs()).unwrap();
        let alone = crate::linear(&x, layer, Epilogue::None).unwrap();
        assert_eq!(distance(&part, &alone), 0.0);
        let cut = whole.rows(first, layer.outputs()).unwrap();
        assert_eq!(distance(&crate::linear(&x, &cut, Epilogue::None).unwrap(), &alone), 0.0);
    }
}

/// In bf16 where that is faster, which rounds to 8 bits as well.
#[test]
fn attention_between_layers_of_8_bits_is_attention() {
    let part = |seed| random(seed, &[2 * 70, 3, 64]);
    let heads = Heads { q: part(1), k: part(2), v: part(3), images: 2 };
    let (scores, width) = (Scores::scaled(64), 3 * 64);
    let expected = crate::attention(&heads, scores).unwrap();
    let beside = |layer| crate::attention_between(&heads, scores, layer).unwrap();
    let in_8_bits = layer(48, width);
    let plain = Linear { weight: Weight::Plain(random(4, &[48, width])), bias: None };
    assert_eq!(distance(&beside(&plain), &expected), 0.0);
    assert!(distance(&beside(&in_8_bits), &expected) < 1e-2);
    let x = random(5, &[2 * 70, width]);
    let both = crate::attention_beside_mlp(&heads, &x, &in_8_bits).unwrap();
    let attended = both.narrow(1, 0, width).unwrap();
    assert_eq!(distance(&attended, &beside(&in_8_bits)), 0.0);
    let then = Epilogue::Activate(Activation::GeluTanh);
    let hidden = crate::linear(&x, &in_8_bits, then).unwrap();
    assert_eq!(distance(&both.narrow(1, width, 48).unwrap(), &hidden), 0.0);
}
