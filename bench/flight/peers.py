"""Parts that run torch: the card's ceilings, diffusers' times, and its images to hold ours against."""

import os
import sys
from pathlib import Path

from ours import without_wrong_kernels

BENCH = Path(__file__).resolve().parents[1]


def ceilings(flight, name, seconds):
    tiny = ["--tiny"] if flight.options.tiny else []
    words = [sys.executable, BENCH / "flight" / "ceilings.py", f"--size={flight.options.size}", *tiny]
    return flight.run(name, words, seconds, dict(os.environ))


class Diffusers:
    """diffusers' time; a kind that is compiled can be so while another part runs."""

    def __init__(self, kind):
        self.kind = kind

    def words(self, flight):
        options = flight.options
        words = [sys.executable, BENCH / "gpu_diffusers.py", self.kind, f"--steps={options.steps}"]
        words += [f"--warmups={options.warmups}", f"--runs={options.runs}", f"--size={options.size}"]
        words.append(f"--preset={'klein' if options.preset == 'klein' else 'schnell'}")
        if options.tiny:
            return [*words, "--tiny"]
        # Found by the eager part, which had the card for itself.
        found = [line["attention"] for line in flight.record.of("diffusers eager") if "attention" in line]
        return [*words, f"--attention={found[-1]}"] if found else words

    def flag(self, flight, name):
        return flight.logs / f"{name.replace(' ', '-')}.go"

    def prepare(self, flight, name):
        """Starts it; its timed runs wait for the part's own turn."""
        flag = self.flag(flight, name)
        flag.unlink(missing_ok=True)
        flight.start(name, [*self.words(flight), f"--wait-for={flag}"])

    def __call__(self, flight, name, seconds):
        child = flight.children.pop(name, None)
        if child is None:
            return flight.run(name, self.words(flight), seconds, dict(os.environ))
        self.flag(flight, name).touch()
        return child.wait(seconds)


def torch_on_host(flight, name, seconds):
    """torch's operations in bf16 at FLUX.1's shapes, on the host's processor."""
    return flight.run(name, [sys.executable, BENCH / "cpu" / "kernels.py", str(len(os.sched_getaffinity(0)))], seconds)


def truth(flight, name, seconds):
    """A whole model of a few blocks against diffusers in f32."""
    options = flight.options
    words = [sys.executable, BENCH / "gpu_truth.py", options.binary, *options.truth]
    if options.tiny:
        words.append("--tiny")
    # What doctor found wrong is known; this is about the rest.
    outcome = flight.run(name, words, seconds, without_wrong_kernels(flight, "fp8"))
    answered = any("errors" in line for line in flight.record.of(name))
    # A picture that is too far off is a finding.
    if answered and not outcome.timed_out:
        outcome.code = 0
    return outcome
