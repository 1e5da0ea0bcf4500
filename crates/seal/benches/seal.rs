//! What sealing costs beside the making of an image: `cargo bench -p obscura-seal`.

use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use protocol::ConfidentialComputeRequest;
use seal::{Epoch, Keyring, KeyringLimits, NodeKeys, Zeroizing, padded_capacity, seal_request};

/// An image of a megapixel as PNG in base64, about.
const RESPONSE_BYTES: usize = 3_000_000;
const MODEL_MANIFEST: [u8; 32] = [2; 32];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let node = node();
    let node_public = node.current().exchange_public();
    let request = || {
        let body = br#"{"model":"m","prompt":"a fox in the snow"}"#.to_vec();
        seal_request(&node_public, Zeroizing::new(body)).expect("a sound key").0
    };
    let open = |request: &ConfidentialComputeRequest| {
        let (plaintext, pending) = node.open(request, Instant::now()).expect("a sound request");
        (plaintext, pending.accept().expect("room for every request"))
    };

    criterion.bench_function("open a request", |bencher| {
        bencher.iter_batched_ref(request, |request| open(request), BatchSize::SmallInput);
    });

    let mut group = criterion.benchmark_group("3 MB response");
    group.throughput(Throughput::Bytes(RESPONSE_BYTES as u64));
    group.bench_function("seal", |bencher| {
        bencher.iter_batched(
            || (open(&request()).1, response(padded_capacity(RESPONSE_BYTES))),
            |(responder, body)| responder.seal(body, &MODEL_MANIFEST),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("open its request and seal", |bencher| {
        bencher.iter_batched(
            || (request(), response(padded_capacity(RESPONSE_BYTES))),
            |(request, body)| open(&request).1.seal(body, &MODEL_MANIFEST),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("open its request and seal, from a buffer without room", |bencher| {
        bencher.iter_batched(
            || (request(), response(RESPONSE_BYTES)),
            |(request, body)| open(&request).1.seal(body, &MODEL_MANIFEST),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();
}

fn node() -> Keyring {
    let keys = NodeKeys::generate().expect("randomness");
    let limits = KeyringLimits { grace: Duration::ZERO, max_ciphertext_bytes: 1 << 20 };
    Keyring::new(Epoch::new(keys, [1; 32], usize::MAX), limits)
}

fn response(capacity: usize) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    body.resize(RESPONSE_BYTES, b'A');
    body
}
