#!/usr/bin/env bash
# Searches the memory of a release build of the program for what should not outlive its use, and what
# it writes for what it was sent: the tests of crates/obscura/tests/secrecy, which ./test runs against
# a debug build. Takes root, since a node lets nobody else read its memory.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
if [ -z "${OBSCURA_PROGRAM:-}" ]; then
  cargo build --release --locked -p obscura --features otlp
  export OBSCURA_PROGRAM=$target/release/obscura
fi
cargo test --locked -p obscura --features download,otlp --test secrecy -- --nocapture
