#!/usr/bin/env bash
# Fuzzes one target, or each in turn: scripts/fuzz.sh [TARGET [EXECUTIONS]]
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler, and the compiler that everything is
# built with: without a sanitizer, coverage needs no nightly one. A finding is an input below
# fuzz/artifacts/TARGET; `cargo fuzz run -s none TARGET FILE` runs it again.
set -euo pipefail
cd "$(dirname "$0")/.."

executions=${2:-100000}
targets=${1:-$(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"$|\1|p' fuzz/Cargo.toml)}

cargo run --quiet --manifest-path fuzz/Cargo.toml --release --bin seeds -- fuzz/corpus
for target in $targets; do
  printf '\n== %s\n' "$target"
  # Two gigabytes and ten seconds are far beyond what any input may cost.
  RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none "$target" -- \
    -runs="$executions" -rss_limit_mb=2048 -timeout=10 -max_len=65536 -print_final_stats=1
done
