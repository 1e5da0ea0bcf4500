"""PyPI's atoma-sdk, unmodified, against our node and no proxy."""

import asyncio
import base64
import io

import pytest
from atoma_sdk import AtomaSDK, models
from PIL import Image

from conftest import MODEL, NATIVE_SIZE

DATA_URL = "data:image/png;base64,"


@pytest.fixture
def sdk(node):
    with AtomaSDK(bearer_auth="any", server_url=node, timeout_ms=60_000) as sdk:
        yield sdk


def picture(base64_text):
    image = Image.open(io.BytesIO(base64.b64decode(base64_text, validate=True)))
    image.load()
    return image


def picture_of_url(url):
    assert url.startswith(DATA_URL)
    return picture(url.removeprefix(DATA_URL))


def test_minimal(sdk):
    answer = sdk.confidential_images.generate(model=MODEL, prompt="a red fox", n=1)
    assert [picture_of_url(entry.url).size for entry in answer.data] == [NATIVE_SIZE]


def test_every_parameter(sdk):
    answer = sdk.confidential_images.generate(
        model=MODEL, prompt="ein Fuchs, 狐 🦊", n=2, size="128x192", quality="hd",
        response_format="b64_json", style="vivid", user="user-1234",
    )
    assert len(answer.data) == 2
    # This SDK's model of an answer drops `b64_json`: the URL is all that reaches its user.
    pictures = [picture_of_url(entry.url) for entry in answer.data]
    assert [image.size for image in pictures] == [(128, 192)] * 2
    assert pictures[0].tobytes() != pictures[1].tobytes()
    assert all(entry.revised_prompt.startswith("ein Fuchs, 狐 🦊,") for entry in answer.data)


def test_response_format_url(sdk):
    answer = sdk.confidential_images.generate(
        model=MODEL, prompt="a boat", n=1, size="64x64", response_format="url"
    )
    assert picture_of_url(answer.data[0].url).size == (64, 64)


def test_async(node):
    async def generate():
        async with AtomaSDK(bearer_auth="any", server_url=node, timeout_ms=60_000) as sdk:
            calls = [
                sdk.confidential_images.generate_async(
                    model=MODEL, prompt=f"picture {i}", n=1, size="64x64"
                )
                for i in range(3)
            ]
            return await asyncio.gather(*calls)

    answers = asyncio.run(generate())
    assert [picture_of_url(answer.data[0].url).size for answer in answers] == [(64, 64)] * 3


def test_plaintext_route(sdk):
    answer = sdk.images.generate(model=MODEL, prompt="a house", n=1, size="64x64")
    assert picture_of_url(answer.data[0].url).size == (64, 64)


def test_a_refusal_is_an_api_error(sdk):
    with pytest.raises(models.APIError) as refused:
        sdk.confidential_images.generate(model=MODEL, prompt="a house", n=11)
    assert refused.value.status_code == 400
    with pytest.raises(models.APIError) as refused:
        sdk.images.generate(model=MODEL, prompt="a house", n=1, size="100x100")
    assert refused.value.status_code == 400 and '"size"' in refused.value.body
