"""Writes captions that no training has seen, with what their pictures must show, for the tests.

    python tools/train-demo/held_out.py     # writes tests/fixtures/demo

Some of the pictures are drawn too, for the reader of pictures to be tested by.
"""

import json
import pathlib
import random

from PIL import Image

import draw
import parts
import world

FOLDER = parts.ROOT / "tests" / "fixtures" / "demo"
CAPTIONS, DRAWN = 500, 12


def main():
    rng = random.Random(500)
    scenes = []
    while len(scenes) < CAPTIONS:
        scene = world.make(rng)
        if scene.held_out:
            scenes.append(scene)
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(described(scene))}" for scene in scenes)
    (FOLDER / "held_out.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for number, scene in enumerate(scenes[:DRAWN]):
        values = (draw.draw(scene, 256) + 1) * 127.5
        picture = Image.fromarray(values.round().byte().permute(1, 2, 0).numpy())
        picture.save(FOLDER / f"drawn-{number:02}.png", optimize=True)


def described(scene):
    things = [
        {"shape": thing.shape, "colour": thing.colour, "x": round(thing.x, 3), "y": round(thing.y, 3)}
        for thing in scene.things
    ]
    return {"caption": scene.caption, "things": things}


if __name__ == "__main__":
    main()
