"""PyPI's openai, unmodified: `images.edit`, straight to a node and through `obscura proxy`.

The model is a small one of FLUX.2-klein's kind with random weights: what it draws is noise, and always the same.
"""

import base64
import io
import os
import subprocess

import httpx
import openai
import pytest
from PIL import Image

from conftest import serve, stand_beside

MODEL = "klein-noise"
ASKED = {"model": MODEL, "prompt": "the same with a hat", "extra_body": {"seed": 7, "steps": 2}}


@pytest.fixture(scope="module")
def klein(tmp_path_factory):
    """A node with that model."""
    directory = tmp_path_factory.mktemp("models") / MODEL
    subprocess.run([os.environ["KLEIN_MODEL_WRITER"], directory], check=True)
    with serve("--model", directory) as (_, url):
        yield url


@pytest.fixture(scope="module")
def klein_proxy(klein):
    with stand_beside(klein) as (_, url):
        yield url


@pytest.fixture(params=["node", "proxy"])
def client(request, klein, klein_proxy):
    url = {"node": klein, "proxy": klein_proxy}[request.param]
    with openai.OpenAI(api_key="any", base_url=f"{url}/v1", max_retries=0) as client:
        yield client


def file(size=(96, 70), name="PNG", colour=(200, 30, 90), **options):
    image = Image.new("RGB", size, colour)
    image.paste((20, 200, 220), (0, 0, size[0] // 2, size[1] // 3))
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    buffer.name = f"input.{name.lower()}"
    buffer.seek(0)
    return buffer


def shown(b64_json):
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def test_an_edit_is_as_large_as_its_image(client):
    answer = client.images.edit(image=file(), **ASKED)
    assert shown(answer.data[0].b64_json).size == (96, 64)
    assert (answer.size, answer.seed) == ("96x64", 7)
    assert answer.usage.input_tokens_details.image_tokens == 6 * 4
    text = answer.usage.input_tokens_details.text_tokens
    assert answer.usage.input_tokens == text + 24 and text > 0
    again = client.images.edit(image=file(), **ASKED)
    assert again.data[0].b64_json == answer.data[0].b64_json
    other = client.images.edit(image=file(colour=(0, 0, 0)), **ASKED)
    assert other.data[0].b64_json != answer.data[0].b64_json


def test_the_proxys_image_is_the_nodes(klein, klein_proxy):
    made = []
    for url in (klein, klein_proxy):
        with openai.OpenAI(api_key="any", base_url=f"{url}/v1", max_retries=0) as client:
            answer = client.images.edit(image=[file(), file((64, 64), "JPEG")], n=2, **ASKED)
            made.append([entry.b64_json for entry in answer.data])
            # What a caller writes as JSON is the same request.
            image = base64.b64encode(file().getvalue()).decode()
            images = [{"image_url": f"data:image/png;base64,{image}"}]
            body = {"model": MODEL, "prompt": "x", "images": images, "seed": 1, "steps": 1}
            answer = httpx.post(f"{url}/v1/images/edits", json=body, timeout=60).raise_for_status()
            made[-1].append(answer.json()["data"][0]["b64_json"])
    assert made[0] == made[1] and len(made[0]) == 3


def test_a_mask_says_what_is_drawn_anew(client):
    mask = Image.new("RGBA", (96, 70), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 48, 70))
    made = {}
    for name in ("masked", "whole"):
        buffer = io.BytesIO()
        mask.save(buffer, "PNG")
        buffer.name = "mask.png"
        buffer.seek(0)
        more = {"mask": buffer} if name == "masked" else {}
        answer = client.images.edit(image=file(), **more, **ASKED)
        assert (answer.size, getattr(answer, "warnings", None)) == ("96x64", None)
        made[name] = answer.data[0].b64_json
    assert made["masked"] != made["whole"]
    for wrong, message in [(file(), "no alpha channel"), (file((64, 64)), "64×64")]:
        with pytest.raises(openai.BadRequestError, match=message) as refused:
            client.images.edit(image=file(), mask=wrong, **ASKED)
        assert refused.value.param == "mask"


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_formats_in_and_out(client, name):
    answer = client.images.edit(image=file(name=name), size="64x64", output_format=name.lower(), **ASKED)
    made = shown(answer.data[0].b64_json)
    assert (made.format, made.size) == (name, (64, 64))


def test_what_a_camera_says_is_up(client):
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = client.images.edit(image=file(exif=exif), **ASKED)
    assert answer.size == "64x96"


def test_a_stream(client):
    events = list(client.images.edit(image=file(), stream=True, partial_images=1, **ASKED))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    assert events[-1].usage.input_tokens_details.image_tokens == 24
    alone = client.images.edit(image=file(), **ASKED)
    assert shown(events[-1].b64_json).tobytes() == shown(alone.data[0].b64_json).tobytes()


def animated():
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def in_cmyk():
    buffer = io.BytesIO()
    Image.new("CMYK", (64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"a text that is called .png", "is neither PNG, JPEG nor WebP"),
        (file((64, 64), "GIF").getvalue(), "is neither PNG, JPEG nor WebP"),
        (file().getvalue()[:-30], "is cut off"),
        (file(name="JPEG").getvalue()[:-30], "is cut off"),
        (animated(), "is animated"),
        (in_cmyk(), "is in CMYK"),
        (file((32, 32)).getvalue(), "sides must be from 64"),
        (file((1024, 64)).getvalue(), "one side may be 8 times"),
    ],
)
def test_a_bad_image_is_named(client, content, says):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(image=("input.png", content), **ASKED)
    assert (refused.value.param, refused.value.code) == ("images", "invalid_image")
    assert "`images[0]`" in refused.value.message and says in refused.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mask": file()}, "mask"),
        ({"image": [file() for _ in range(5)]}, "images"),
        ({"size": "100x100"}, "size"),
        ({"background": "transparent"}, "background"),
        ({"n": 0}, "n"),
    ],
)
def test_a_bad_field_is_named(client, fields, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(**{"image": file(), **ASKED, **fields})
    assert refused.value.param == param


def test_modes_that_pillow_writes_are_read(client):
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        buffer = io.BytesIO()
        Image.new(mode, (64, 64)).save(buffer, "PNG")
        answer = client.images.edit(image=("input.png", buffer.getvalue()), **ASKED)
        assert bool(getattr(answer, "warnings", None)) == (mode in ("LA", "RGBA")), mode


def test_a_model_of_text_alone_says_so(node, proxy):
    for url in (node, proxy):
        with openai.OpenAI(api_key="any", base_url=f"{url}/v1", max_retries=0) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                client.images.edit(image=file(), model="obscura/demo", prompt="x")
            assert refused.value.code == "no_input_images" and "FLUX.2-klein" in refused.value.message


def test_azures_client(klein):
    with openai.AzureOpenAI(
        api_key="any", azure_endpoint=klein, api_version="2025-04-01-preview", max_retries=0
    ) as client:
        assert client.images.edit(image=file(), **ASKED).size == "96x64"


def test_the_command_line(klein, tmp_path):
    program = os.environ["OBSCURA_BIN"]
    (tmp_path / "input.png").write_bytes(file().getvalue())
    asked = [program, "generate", "a hat", "--image", "input.png", "--seed", "7", "--steps", "2", "--json"]
    made = subprocess.run(
        [*asked, "--node", klein, "--accept-simulated", "--output", "node.png"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )
    assert '"size":"96x64"' in made.stdout
    refused = subprocess.run([*asked, "--model", "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1 and "--image: the model takes 0 input images" in refused.stderr
    with openai.OpenAI(api_key="any", base_url=f"{klein}/v1", max_retries=0) as client:
        answer = client.images.edit(image=file(), **{**ASKED, "prompt": "a hat"})
    expected = shown(answer.data[0].b64_json).tobytes()
    assert Image.open(tmp_path / "node.png").tobytes() == expected


def test_info_says_how_many(node, klein):
    for url, most in ((node, 0), (klein, 4)):
        (told,) = httpx.get(f"{url}/info").json()["models"]
        (listed,) = httpx.get(f"{url}/v1/models").json()["data"]
        assert (told["id"], told["input_images"], listed["input_images"]) == (listed["id"], most, most)
