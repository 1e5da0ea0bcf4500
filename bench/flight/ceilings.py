"""What the card can do at FLUX.1's shapes through torch: a JSON line for each ceiling, as it is known.

    python bench/flight/ceilings.py [--size 1024x1024] [--tiny]

Copies, products in bf16, products in e4m3 with a scale for each row (with and without bias), attention
and convolutions. All on random values; what fits into the second-level cache rotates among several
sets of operands, as a model's weights do. Times are medians of timed groups of runs.

--tiny runs small shapes on the CPU: does this run at all?
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import shapes

# More than the second-level cache of any card.
ROTATED_BYTES = 256 << 20
MOST_SETS = 16
# A launch from Python takes about a hundredth of it.
SHORT_MILLISECONDS = 0.2


def main():
    options = parse()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    device = "cpu" if options.tiny else "cuda"
    if not options.tiny:
        torch.backends.cudnn.benchmark = True
    bench = Bench(device, options.milliseconds)
    size = shapes.parse_size(options.size)
    bench.copy(1 << 20 if options.tiny else 2 << 30)
    products = [*shapes.products(size), *shapes.text_encoder_products()]
    if options.tiny:
        products = [shapes.Product("tiny", 32, 64, 48, 1)]
    for product in products:
        bench.product(product)
    for product in products:
        if not product.name.startswith(("t5", "modulation")):
            bench.scaled_product(product)
    attention, _ = shapes.attention(size)
    bench.attention((2, 40, 16) if options.tiny else attention)
    convolutions = [(8, 12, 16, 16)] if options.tiny else shapes.convolutions(size)
    for convolution in convolutions:
        bench.convolution(convolution)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1024x1024")
    parser.add_argument("--milliseconds", type=float, default=40, help="to time each for")
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


class Bench:
    def __init__(self, device, milliseconds):
        self.device, self.milliseconds = device, milliseconds

    def copy(self, count):
        source = torch.randint(0, 256, (count,), dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        self.report({"ceiling": "copy", "name": "copy"}, lambda _: target.copy_(source), [None],
                    moved=2 * count)

    def product(self, product):
        def operands():
            return self.normal(product.rows, product.inputs), self.weight(product), self.normal(product.outputs)

        self.report({"ceiling": "product", "name": product.name, "dtype": "bf16"},
                    lambda set: F.linear(*set), self.sets(operands, 2 * self.bytes_of(product)),
                    operations=product.operations)

    def scaled_product(self, product):
        def operands():
            x = self.normal(product.rows, product.inputs).to(torch.float8_e4m3fn)
            weight = self.weight(product).to(torch.float8_e4m3fn)
            return x, weight, self.normal(product.outputs)

        on_cpu = self.device == "cpu"
        rows, outputs = (1, 1) if on_cpu else (product.rows, product.outputs)
        scale_x = torch.rand(rows, 1, device=self.device) + 0.5
        scale_weight = torch.rand(1, outputs, device=self.device) + 0.5
        sets = self.sets(operands, self.bytes_of(product))
        for biased in (True, False):
            def run(set, biased=biased):
                x, weight, bias = set
                torch._scaled_mm(x, weight.t(), scale_a=scale_x, scale_b=scale_weight,
                                 bias=bias if biased else None, out_dtype=torch.bfloat16,
                                 use_fast_accum=not on_cpu)

            self.report({"ceiling": "product", "name": product.name, "dtype": "e4m3", "biased": biased},
                        run, sets, operations=product.operations)

    def attention(self, shape):
        heads, tokens, width = shape
        q, k, v = (self.normal(1, tokens, heads, width).transpose(1, 2) for _ in range(3))
        backends = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
        if self.device == "cpu":
            backends = {"math": SDPBackend.MATH}
        for name, backend in backends.items():
            with sdpa_kernel([backend]):
                self.report({"ceiling": "attention", "name": "attention", "through": name},
                            lambda _: F.scaled_dot_product_attention(q, k, v), [None],
                            operations=shapes.attention_operations(shape))

    def convolution(self, shape):
        height, width, inputs, outputs = shape
        channels_last = {"memory_format": torch.channels_last}
        x = self.normal(1, inputs, height, width).to(**channels_last)
        weight = (self.normal(outputs, inputs, 3, 3) * (9 * inputs) ** -0.5).to(**channels_last)
        bias = self.normal(outputs)
        self.report({"ceiling": "convolution", "name": "x".join(map(str, shape))},
                    lambda _: F.conv2d(x, weight, bias, padding=1), [None],
                    operations=shapes.convolution_operations(shape))

    def normal(self, *shape):
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16)

    def weight(self, product):
        return self.normal(product.outputs, product.inputs) * product.inputs**-0.5

    @staticmethod
    def bytes_of(product):
        """In values of one byte."""
        return product.rows * product.inputs + product.inputs * product.outputs

    @staticmethod
    def sets(operands, size):
        return [operands() for _ in range(max(1, min(MOST_SETS, ROTATED_BYTES // size)))]

    def report(self, what, run, sets, operations=None, moved=None):
        try:
            milliseconds, spread = self.time(run, sets)
        except (RuntimeError, NotImplementedError) as error:
            print(json.dumps({**what, "error": str(error)[:300]}), flush=True)
            return
        line = {**what, "milliseconds": milliseconds, "spread": spread}
        if operations:
            line["tflops"] = operations / milliseconds / 1e9
        if moved:
            line["bytes_per_second"] = moved / milliseconds * 1e3
        print(json.dumps(line), flush=True)

    def time(self, run, sets):
        """Median milliseconds of a run, and the least and most of its groups."""
        for set in sets[:3]:
            run(set)
        once = self.milliseconds_of(self.loop(run, sets[:1], 3), 3)
        groups = 5
        count = max(1, min(200, round(self.milliseconds / groups / max(once, 1e-3))))
        loop = self.loop(run, sets, count)
        # Of short ones the host would be the bound.
        if once < SHORT_MILLISECONDS:
            loop = self.recorded(loop)
        times = [self.milliseconds_of(loop, count) for _ in range(groups)]
        return statistics.median(times), [min(times), max(times)]

    @staticmethod
    def loop(run, sets, count):
        def runs():
            for i in range(count):
                run(sets[i % len(sets)])

        return runs

    def recorded(self, loop):
        """The same work as a graph, which the device runs by itself; the loop where there is none."""
        if self.device == "cpu":
            return loop
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                loop()
            graph.replay()
        except RuntimeError:
            torch.cuda.synchronize()
            return loop
        return graph.replay

    def milliseconds_of(self, loop, count):
        """Of each of `count` runs, timed together."""
        if self.device == "cpu":
            started = time.perf_counter()
            loop()
            return (time.perf_counter() - started) * 1e3 / count
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        loop()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / count


if __name__ == "__main__":
    main()
