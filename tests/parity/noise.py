"""torch's CPU normal generator, sampled."""

import torch

SEEDS = (0, 1, 42, 2**32 - 1, 2**32 + 5, 2**53 + 1)
LENGTHS = (1, 2, 5, 8, 15, 16, 17, 24, 31, 32, 33, 100, 4096)
EDGE = 32  # values kept at each end of a longer one


def noise_table():
    """`torch.randn(length)` for each seed and length; sums are over all values, in f64."""
    rows = []
    for seed in SEEDS:
        for length in LENGTHS:
            values = torch.randn(length, generator=torch.Generator().manual_seed(seed))
            doubles = values.double()
            rows.append(
                {
                    "seed": seed,
                    "length": length,
                    "first": shortest(values[:EDGE]),
                    "last": shortest(values[-EDGE:]),
                    "sum": doubles.sum().item(),
                    "sum_of_squares": doubles.square().sum().item(),
                }
            )
    return rows


def shortest(values):
    """Each f32 as the shortest decimal that reads back as it."""
    return [float(str(value)) for value in values.numpy()]
