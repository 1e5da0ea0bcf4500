"""What each call of a flight does, in order, and how long each part may take."""

import kernels
import machine
import ours
import peers
import probe
from flight import Part

COMPILED = Part("diffusers compiled", 10, 140, peers.Diffusers("compiled"), ours=False)

# Small sizes, and how many of them have about as many tokens as one image of 1024x1024.
TOGETHER = {"512x512": 3, "256x256": 8}
# The first has the text encoders rest in the host's memory, the second has images decoded in tiles too.
MEMORY_LIMITS = ["28GB", "25.5GB"]

CALLS = {
    # What there is on an unknown card, before anything else is known.
    1: [
        Part("machine", 5, 15, machine.describe),
        Part("ceilings", 25, 50, peers.ceilings, ours=False),
        Part("doctor", 45, 80, ours.doctor(["--short"])),
        Part("bf16", 20, 45, ours.bench("bf16")),
        Part("fp8", 20, 45, ours.bench("fp8")),
        Part("cublaslt", 10, 30, probe.cublaslt),
        Part("kernels bf16", 15, 40, kernels.traced("bf16")),
        Part("kernels fp8", 15, 40, kernels.traced("fp8")),
    ],
    # Others on the same card, and whether images are right.
    2: [
        Part("diffusers eager", 45, 70, peers.Diffusers("eager"), ours=False),
        # Compiling takes the CPU's time, comparing images nobody's: both at once.
        Part("truth", 105, 130, peers.truth, beside=COMPILED),
        COMPILED,
        Part("node start", 15, 40, ours.node_start),
        Part("diffusers fp8", 90, 140, peers.Diffusers("fp8"), ours=False),
    ],
    # A second machine, with what the first one taught.
    3: [
        Part("machine", 5, 15, machine.describe),
        Part("doctor full", 90, 180, ours.doctor([])),
        Part("bf16 again", 25, 60, ours.bench("bf16", warmups=3, runs=10)),
        Part("fp8 again", 25, 60, ours.bench("fp8", warmups=3, runs=10)),
        Part("diffusers fp8", 90, 140, peers.Diffusers("fp8"), ours=False),
        # With the card for itself from the beginning.
        Part("diffusers compiled again", 130, 160, peers.Diffusers("compiled"), ours=False),
        *(
            Part(f"{size} by {count}", 15, 40, ours.bench("bf16", f"--size={size}", f"--batch={count}"))
            for size, together in TOGETHER.items()
            for count in (1, together)
        ),
        *(
            Part(f"bf16 in {limit}", 25, 60, ours.bench("bf16", f"--memory-limit={limit}"))
            for limit in MEMORY_LIMITS
        ),
        *(Part(tool, 30, 60, ours.sanitized(tool)) for tool in ("memcheck", "racecheck")),
    ],
    # The card's host, whose processor may have AMX.
    4: [
        Part("host", 2, 10, machine.describe_host, ours=False),
        Part("host doctor", 20, 90, ours.doctor_of_host),
        *(
            Part(f"host {tier}{f' without AMX' if level else ''}", 40, 90, ours.bench_of_host(tier, level))
            for tier, level in [("bf16", None), ("int8", None), ("int8", "avx512")]
        ),
        Part("host torch bf16", 30, 60, peers.torch_on_host, ours=False),
    ],
}


def print_plan(binary):
    for call, parts in CALLS.items():
        print(f"call {call}: bench/gpu {binary} --call {call}")
        for part in parts:
            beside = f", while {part.beside.name} prepares" if part.beside else ""
            print(f"  {part.name:20} {part.expected:4} s, at most {part.limit:4} s{beside}")
        print(f"  {'in all':20} {sum(part.expected for part in parts):4} s\n")
