"""Draws scenes: smooth edges from signed distances, a soft shadow, a little light from above."""

import functools
import math
import random

import torch

from world import COLOURS, Scene

# Where a landscape's horizon lies, from the top.
HORIZON = 0.62


def draw(scene: Scene, side: int) -> torch.Tensor:
    """The picture (3, side, side), values −1 to 1."""
    x, y = grid(side)
    picture = background(scene.background, side).clone()
    for thing in scene.things:
        # The part of the picture that the shape and its shadow lie in.
        rows, columns = (window(centre, thing.radius, side) for centre in (thing.y, thing.x))
        part = picture[:, rows, columns]
        # Lengths in radii; down is positive.
        u, v = (x[rows, columns] - thing.x) / thing.radius, (y[rows, columns] - thing.y) / thing.radius
        edge = 1.2 / (side * thing.radius)
        part *= 1 - 0.22 * cover(SHAPES[thing.shape](u - 0.06, v - 0.10), 0.16 + edge)
        inside = cover(SHAPES[thing.shape](u, v), edge)
        # From 8 % lighter at the top to 8 % darker at the bottom.
        part += inside * (tinted(thing.colour, -0.08 * v.clamp(-1, 1)) - part)
    return (picture * 2 - 1).clamp(-1, 1)


def window(centre, radius, side):
    first, last = (centre - 1.4 * radius) * side, (centre + 1.5 * radius) * side
    return slice(max(0, int(first)), max(0, min(side, int(last) + 1)))


@functools.lru_cache(maxsize=8)
def grid(side):
    centres = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return x, y


def cover(distance, edge):
    """1 inside, 0 outside, smooth over `edge` on both sides of the border."""
    t = (0.5 - distance / (2 * edge)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def rgb(colour):
    return torch.tensor(COLOURS[colour], dtype=torch.float32).view(3, 1, 1) / 255


def tinted(colour, light):
    return (rgb(colour) + light).clamp(0, 1)


@functools.lru_cache(maxsize=512)
def background(described, side):
    x, y = grid(side)
    kind, *colours = described
    if kind == "plain":
        return tinted(colours[0], 0.05 * (0.5 - y))
    if kind == "gradient":
        return rgb(colours[0]) + y * (rgb(colours[1]) - rgb(colours[0]))
    if kind == "stripes":
        # Four of each, upright.
        wave = torch.sin(x * 8 * math.pi)
        return rgb(colours[0]) + cover(wave, 24 / side) * (rgb(colours[1]) - rgb(colours[0]))
    return LANDSCAPES[kind](x, y)


def night_sky(x, y):
    sky = mix((10, 14, 48), (44, 38, 96), y)
    rng = random.Random(7)
    for _ in range(26):
        cx, cy, size = rng.random(), rng.random(), rng.uniform(0.004, 0.009)
        glow = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / size**2)
        sky = sky + glow * (torch.tensor([1.0, 0.97, 0.85]).view(3, 1, 1) - sky)
    return sky


def sea(x, y):
    sky = mix((255, 209, 150), (255, 238, 214), y / HORIZON)
    water = mix((42, 120, 190), (16, 58, 120), (y - HORIZON) / (1 - HORIZON))
    gleam = 0.05 * torch.sin(y * 150) * (y > HORIZON)
    return sky + cover(HORIZON - y, 0.008) * (water - sky) + gleam


def field(x, y):
    sky = mix((122, 190, 240), (205, 232, 250), y / HORIZON)
    grass = mix((122, 190, 82), (60, 140, 62), (y - HORIZON) / (1 - HORIZON))
    hill = HORIZON + 0.035 * torch.sin(x * 5 + 0.6)
    return sky + cover(hill - y, 0.008) * (grass - sky)


def mix(top, bottom, t):
    top, bottom = (torch.tensor(c, dtype=torch.float32).view(3, 1, 1) / 255 for c in (top, bottom))
    return top + t.clamp(0, 1) * (bottom - top)


LANDSCAPES = {"night sky": night_sky, "sea": sea, "field": field}


# Signed distances, or what is close to them near the border, in radii; negative inside.


def circle(u, v):
    return torch.hypot(u, v) - 0.9


def ring(u, v):
    return (torch.hypot(u, v) - 0.7).abs() - 0.22


def square(u, v):
    return torch.maximum(u.abs(), v.abs()) - 0.78


def diamond(u, v):
    return (u.abs() / 0.75 + v.abs() / 1.0 - 1) * 0.6


def triangle(u, v):
    # Apex up: between (0, −1) and (±0.95, 0.7).
    slope = 0.95 / 1.7
    return torch.maximum((u.abs() - (v + 1) * slope) / math.hypot(1, slope), v - 0.7)


def cross(u, v):
    a, b = u.abs(), v.abs()
    return torch.minimum(torch.maximum(a - 0.92, b - 0.3), torch.maximum(a - 0.3, b - 0.92))


def star(u, v):
    # Five points, one of them up, by folding into one tenth of the turn.
    angle = torch.atan2(u, -v)
    turn = 2 * math.pi / 5
    folded = (torch.remainder(angle + turn / 2, turn) - turn / 2).abs()
    r = torch.hypot(u, v)
    px, py = r * torch.cos(folded), r * torch.sin(folded)
    outer, inner = (1.0, 0.0), (0.42 * math.cos(turn / 2), 0.42 * math.sin(turn / 2))
    nx, ny = inner[1] - outer[1], outer[0] - inner[0]
    length = math.hypot(nx, ny)
    return ((px - outer[0]) * nx + (py - outer[1]) * ny) / length


def heart(u, v):
    # A square on its corner, and a circle on each of its upper sides.
    half, v = 0.8, v - 0.12
    body = (u.abs() + v.abs() - half) / math.sqrt(2)
    lobes = torch.hypot(u.abs() - half / 2, v + half / 2) - half / math.sqrt(2)
    return torch.minimum(body, lobes)


def crescent(u, v):
    return torch.maximum(torch.hypot(u, v) - 0.9, 0.76 - torch.hypot(u - 0.42, v + 0.1))


def house(u, v):
    walls = torch.maximum(u.abs() - 0.6, (v - 0.27).abs() - 0.55)
    slope = 0.85 / 0.75
    roof = torch.maximum((u.abs() - (v + 0.95) * slope) / math.hypot(1, slope), v + 0.2)
    return torch.minimum(walls, roof)


SHAPES = {
    "circle": circle, "square": square, "triangle": triangle, "star": star, "ring": ring, "heart": heart,
    "crescent": crescent, "diamond": diamond, "cross": cross, "house": house,
}
