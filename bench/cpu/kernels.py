"""torch's products, attention and convolutions on a CPU at FLUX.1's shapes, in bf16 or f32: the peer of
`cargo bench -p obscura-kernels --bench cpu [-- f32]`. A line of JSON each, medians, TFLOP/s.

    python bench/cpu/kernels.py [THREADS [f32]]
"""

import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

PRODUCTS = [(rows, *shape) for shape in ((3072, 9216), (3072, 12288), (15360, 3072), (12288, 3072)) for rows in (1280, 4352)]
PRODUCTS += [(256, 4096, 4096), (256, 4096, 10240)]
ATTENTIONS = [1280, 4352]
CONVOLUTIONS = [(64, 512, 512), (128, 512, 512), (256, 512, 256), (512, 256, 128), (512, 128, 128)]
LEAST_RUNS, LEAST_SECONDS = 5, 0.5
DTYPE = torch.float32 if "f32" in sys.argv else torch.bfloat16


@torch.inference_mode()
def main():
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "dtype": str(DTYPE)}))
    for rows, inputs, outputs in PRODUCTS:
        x, weight, bias = random(rows, inputs), random(outputs, inputs), random(outputs)
        operations = 2 * rows * inputs * outputs
        report("linear", f"{rows}x{inputs}->{outputs}", operations, lambda: F.linear(x, weight, bias))
    for tokens in ATTENTIONS:
        q, k, v = (random(1, 24, tokens, 128) for _ in range(3))
        operations = 4 * tokens * tokens * 24 * 128
        report("attention", f"{tokens}x24x128", operations, lambda: F.scaled_dot_product_attention(q, k, v))
    for side, inputs, outputs in CONVOLUTIONS:
        last = torch.channels_last
        x, weight = random(1, inputs, side, side).to(memory_format=last), random(outputs, inputs, 3, 3).to(memory_format=last)
        operations = 18 * side * side * inputs * outputs
        report("conv", f"{side}x{side} {inputs}->{outputs}", operations, lambda: F.conv2d(x, weight, padding=1))


def random(*shape):
    return torch.randn(*shape, dtype=DTYPE)


def report(what, case, operations, run):
    run()
    seconds, begun = [], time.monotonic()
    while len(seconds) < LEAST_RUNS or time.monotonic() - begun < LEAST_SECONDS:
        started = time.monotonic()
        run()
        seconds.append(time.monotonic() - started)
    median = statistics.median(seconds)
    print(json.dumps({"peer": what, "case": case, "ms": round(1e3 * median, 3),
                      "best_ms": round(1e3 * min(seconds), 3), "tflops": round(operations / median / 1e12, 3)}), flush=True)


if __name__ == "__main__":
    main()
