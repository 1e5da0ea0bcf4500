"""Edits by the Python SDK: input images by themselves, and as PyPI's openai sends them."""

import asyncio
import base64
import io
import os
import subprocess

import httpx
import obscura
import openai
import pytest
from obscura._images import MAX_BYTES, data_urls, edit_fields, form_request

from conftest import MODEL, serve
from PIL import Image
from relay import PROMPT, SMALL, TRUST

EDITS = "/v1/confidential/images/edits"
# PNG's first bytes, and enough after them to be found again.
FILE = b"\x89PNG\r\n\x1a\n--an input image that nobody else may see\r\n--"
URL = "data:image/png;base64," + base64.b64encode(FILE).decode()


def test_files_are_known_by_their_content_and_bounded(tmp_path):
    path = tmp_path / "x.gif"
    path.write_bytes(FILE)
    webp = b"RIFF\0\0\0\0WEBPVP8 "
    found = data_urls([FILE, path, b"\xff\xd8\xff", webp, URL])
    assert found == [URL, URL, "data:image/jpeg;base64,/9j/", f"data:image/webp;base64,{base64.b64encode(webp).decode()}", URL]
    large = FILE + bytes(MAX_BYTES - len(FILE))
    assert len(data_urls([large])) == 1
    path.write_bytes(large + b"x")
    for images, message in [
        ([b"GIF89a"], "PNG, JPEG or WebP"),
        ([b""], "PNG, JPEG or WebP"),
        (["https://node.example/x.png"], "data: URL"),
        (["data:image/png,x"], "data: URL"),
        ([large, b"\xff\xd8\xff"], "20000000 bytes"),
        ([path], "20000000 bytes"),
        ([tmp_path / "none.png"], "cannot be read"),
        ([7], "bytes, a path"),
        (FILE, "is a list"),
        (URL, "is a list"),
    ]:
        with pytest.raises(obscura.ConfigurationError, match=message):
            data_urls(images)
    assert edit_fields([FILE], FILE) == {"images": [URL], "mask": URL}
    assert edit_fields([URL], None) == {"images": [URL]}
    for images, mask, message in [
        ([large], FILE, "20000000 bytes"),
        (FILE, FILE, "is a list"),
        ([FILE], b"", "PNG, JPEG or WebP"),
    ]:
        with pytest.raises(obscura.ConfigurationError, match=message):
            edit_fields(images, mask)


def test_a_mask_is_transparent_where_it_is_drawn():
    width, height = 101, 75
    boxes = [(3, 5, 20, 75), (90, 0, 101, 9), (0, 40, 101, 41)]
    expected = Image.new("L", (width, height), 255)
    for left, top, right, bottom in boxes:
        expected.paste(0, (left, top, right, bottom))
    redrawn = bytes(255 - value for value in expected.tobytes())
    for given in (boxes, redrawn, bytearray(redrawn), [list(box) for box in boxes]):
        made = Image.open(io.BytesIO(obscura.mask(width, height, given)))
        assert (made.format, made.size) == ("PNG", (width, height))
        assert made.convert("RGBA").getchannel("A").tobytes() == expected.tobytes()
    for sides, given, message in [
        ((0, 75), boxes, "sides"),
        ((101, 16_385), boxes, "sides"),
        ((101.0, 75), boxes, "sides"),
        ((100, 75), boxes, "no rectangle"),
        ((101, 75), [(5, 5, 5, 9)], "no rectangle"),
        ((101, 75), [(0.5, 0, 9, 9)], "no rectangle"),
        ((101, 75), [(1, 2, 3)], "no rectangle"),
        ((101, 75), redrawn[1:], "7574 bytes"),
    ]:
        with pytest.raises(obscura.ConfigurationError, match=message):
            obscura.mask(*sides, given)


def form(fields, files):
    """As httpx writes it."""
    request = httpx.Request("POST", "http://x/", data=fields, files=files)
    return request.read(), request.headers["content-type"]


def test_a_form_says_what_the_json_would():
    fields = {"prompt": "1", "n": "2", "stream": "true", "guidance": "3.5", "seed": str(2**64 - 1), "other": "7"}
    files = [("image[]", ("a\r\n\"b.png", FILE)), ("image", ("b.png", FILE)), ("mask", ("m.png", FILE))]
    request = form_request(*form(fields, files))
    expected = {"prompt": "1", "n": 2, "stream": True, "guidance": 3.5, "seed": 2**64 - 1, "other": "7"}
    assert request == expected | {"images": [URL, URL], "mask": URL}
    # What is no number is the node's to refuse, by its name.
    for text in ("two", "", "1" * 5000):
        assert form_request(*form({"n": text}, files))["n"] == text
    for fields, files, message in [
        ({"n": ["1", "2"]}, files, "n stands twice"),
        ({"image": "x"}, files, "image is no file"),
        ({}, [*files, ("mask", ("m.png", FILE))], "mask stands twice"),
        ({}, [("prompt", ("x", FILE))], "prompt is a file"),
        ({"prompt": b"\xff"}, files, "prompt is no text"),
    ]:
        with pytest.raises(obscura.ConfigurationError, match=message):
            form_request(*form(fields, files))


def test_what_is_no_form_is_refused():
    content, kind = form({"prompt": "x"}, [("image", ("a.png", FILE))])
    for content, kind in [
        (content[:-6], kind),
        (content[2:], kind),
        (b"x" + content, kind),
        (b"", kind),
        (content, "multipart/form-data"),
        (content, "multipart/form-data; boundary=other"),
        (content.replace(b"form-data; name", b"form-data; nam"), kind),
        (content.replace(b"\r\n\r\n", b"\r\n"), kind),
    ]:
        with pytest.raises(obscura.ConfigurationError, match="cannot be read"):
            form_request(content, kind)


def test_an_edit_is_sealed_image_and_words(wire, sealed):
    # The demo model takes no input images: what is looked at is what was sent.
    client = openai.OpenAI(
        api_key="any", base_url=f"{wire.url}/v1", max_retries=0, http_client=obscura.client(wire.url, **TRUST)
    )
    asked = [
        lambda: sealed.generate(**SMALL, images=[FILE]),
        lambda: list(sealed.stream(**SMALL, images=[URL])),
        lambda: client.images.edit(**SMALL, image=("x.png", FILE)),
        lambda: client.images.edit(**SMALL, image=[("x.png", FILE), ("y.png", FILE)], stream=True),
    ]
    for ask in asked:
        with pytest.raises((obscura.RefusedError, openai.APIStatusError)):
            ask()

    async def main():
        http_client = obscura.async_client(wire.url, **TRUST)
        async with openai.AsyncOpenAI(api_key="any", base_url=f"{wire.url}/v1", max_retries=0, http_client=http_client) as client:
            with pytest.raises(openai.APIStatusError):
                await client.images.edit(**SMALL, image=("x.png", FILE))

    asyncio.run(main())
    edits = [sent for sent in wire.sent if sent.path == EDITS]
    assert len(edits) == len(asked) + 1
    wire.assert_no_prompt()
    for sent in edits:
        assert base64.b64encode(FILE)[12:40] not in sent.body and b"nobody else" not in sent.body
    before = len(wire.sent)
    with pytest.raises(openai.BadRequestError, match="nothing was sent"):
        client.images.edit(model=MODEL, prompt="x", image=("x.gif", b"GIF89a"))
    assert len(wire.sent) == before
    client.close()


@pytest.fixture(scope="module")
def klein(tmp_path_factory):
    """A node whose model takes input images: a small one with random weights, whose noise is other noise for each."""
    if "KLEIN_MODEL_WRITER" not in os.environ:
        pytest.skip("no model here takes input images")
    directory = tmp_path_factory.mktemp("models") / "klein-noise"
    subprocess.run([os.environ["KLEIN_MODEL_WRITER"], directory], check=True)
    with serve("--model", directory) as (_, url):
        yield url


def test_the_sealed_image_is_the_one_in_clear_text(klein, tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 30, 90)).save(buffer, "PNG")
    file, path = buffer.getvalue(), tmp_path / "input.png"
    path.write_bytes(file)
    asked = {"model": "klein-noise", "prompt": PROMPT}
    ours = {"seed": 7, "steps": 2}
    with openai.OpenAI(api_key="any", base_url=f"{klein}/v1", max_retries=0) as direct:
        expected = direct.images.edit(image=("x.png", file), **asked, extra_body=ours).data[0].b64_json
    http_client = obscura.client(klein, **TRUST)
    with openai.OpenAI(api_key="any", base_url=f"{klein}/v1", max_retries=0, http_client=http_client) as client:
        for image in (("x.png", file), [("x.png", file)]):
            assert client.images.edit(image=image, **asked, extra_body=ours).data[0].b64_json == expected
        *_, completed = client.images.edit(image=("x.png", file), **asked, stream=True, partial_images=1, extra_body=ours)
        assert (completed.type, completed.b64_json) == ("image_edit.completed", expected)
        with pytest.raises(openai.BadRequestError):
            client.images.edit(image=("x.png", file[:40]), **asked)
        Image.new("RGBA", (96, 64), (0, 0, 0, 0)).save(buffer := io.BytesIO(), "PNG")
        mask = buffer.getvalue()
        masked = client.images.edit(image=("x.png", file), mask=("m.png", mask), **asked, extra_body=ours)
        # Transparent everywhere, and the image as large as it is read: the same as without.
        assert masked.data[0].b64_json == expected
        with pytest.raises(openai.BadRequestError, match="no alpha channel"):
            client.images.edit(image=("x.png", file), mask=("m.png", file), **asked)
    answer = obscura.generate(klein, **asked, images=[path], fields=ours | {"mask": mask}, **TRUST)
    assert answer["data"][0]["url"].partition(",")[2] == expected
    # One of ours is the same to a node as an image library's.
    own = obscura.mask(96, 64, [(0, 0, 48, 64)])
    usual = Image.new("RGBA", (96, 64), (0, 0, 0, 255))
    usual.paste((0, 0, 0, 0), (0, 0, 48, 64))
    usual.save(buffer := io.BytesIO(), "PNG")
    made = []
    for http, mask in [(None, buffer.getvalue()), (obscura.client(klein, **TRUST), own)]:
        with openai.OpenAI(api_key="any", base_url=f"{klein}/v1", max_retries=0, http_client=http) as client:
            answer = client.images.edit(image=file, mask=mask, **asked, extra_body=ours)
            made.append(answer.data[0].b64_json)
    with obscura.Node(klein, **TRUST) as node:
        answer = node.generate(**asked, **ours, images=[file], mask=own)
        made.append(answer["data"][0]["url"].partition(",")[2])
    assert len(set(made)) == 1 and made[0] != expected
    answer = obscura.generate(klein, **asked, images=[path], fields=ours, **TRUST)
    assert answer["data"][0]["url"].partition(",")[2] == expected
    *_, last = obscura.stream(klein, **asked, images=[file], fields=ours, **TRUST)
    assert last["type"] == "image_edit.completed"
    with obscura.Node(klein, **TRUST) as node, pytest.raises(obscura.RefusedError) as refused:
        node.generate(**asked, images=[file] * 5)
    assert (refused.value.status, refused.value.attested) == (400, True)
