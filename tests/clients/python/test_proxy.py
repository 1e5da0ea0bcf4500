"""Clients that people use, unmodified, through `obscura proxy`."""

import base64
import io

import httpx
import openai
import pytest
from atoma_sdk import AtomaSDK
from PIL import Image

from conftest import MODEL

SMALL = {"model": MODEL, "prompt": "a red fox", "size": "64x64", "extra_body": {"seed": 7}}


@pytest.fixture
def client(proxy):
    with openai.OpenAI(api_key="any", base_url=f"{proxy}/v1", max_retries=0) as client:
        yield client


def size(b64_json):
    return Image.open(io.BytesIO(base64.b64decode(b64_json))).size


def test_the_image_is_the_nodes(client, node):
    with openai.OpenAI(api_key="any", base_url=f"{node}/v1", max_retries=0) as direct:
        expected = direct.images.generate(**SMALL)
    answer = client.images.generate(**SMALL)
    assert answer.data[0].b64_json == expected.data[0].b64_json
    assert answer.data[0].url == expected.data[0].url
    assert (answer.seed, answer.size, answer.usage) == (7, "64x64", expected.usage)


def test_azures_client(proxy):
    with openai.AzureOpenAI(
        api_key="any", azure_endpoint=proxy, api_version="2025-04-01-preview", max_retries=0
    ) as client:
        [entry] = client.images.generate(**SMALL).data
    assert size(entry.b64_json) == (64, 64)


def test_forms_of_an_answer(client):
    answer = client.images.generate(**SMALL, n=2, response_format="b64_json", output_format="webp")
    assert [size(entry.b64_json) for entry in answer.data] == [(64, 64)] * 2
    answer = client.images.generate(**SMALL, response_format="url")
    fetched = httpx.get(answer.data[0].url)
    assert fetched.headers["content-type"] == "image/png" and answer.data[0].b64_json is None
    assert Image.open(io.BytesIO(fetched.content)).size == (64, 64)


def test_a_stream_with_partial_pictures(client):
    *partial, completed = client.images.generate(**SMALL, stream=True, partial_images=2)
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert completed.type == "image_generation.completed"
    assert completed.b64_json == client.images.generate(**SMALL).data[0].b64_json


def test_a_stream_that_is_left(client):
    for event in client.images.generate(**{**SMALL, "size": "256x256"}, stream=True, partial_images=3):
        assert event.partial_image_index == 0
        break
    assert client.images.generate(**SMALL).data


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"size": "100x100"}, "size"),
        ({"response_format": "png"}, "response_format"),
        ({"stream": True, "partial_images": 4}, "partial_images"),
        ({"stream": True, "response_format": "url"}, "response_format"),
        ({"extra_body": {"seed": "7"}}, "seed"),
    ],
)
def test_a_bad_request_names_its_field(client, fields, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**{**SMALL, **fields})
    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")
    assert refused.value.request_id


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError) as refused:
        client.images.generate(model="other", prompt="x")
    assert refused.value.code == "model_not_found"


def test_what_is_not_sealed_is_not_passed_on(client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    assert refused.value.code == "not_sealed"


def test_atoma(proxy):
    with AtomaSDK(bearer_auth="any", server_url=proxy, timeout_ms=60_000) as sdk:
        answer = sdk.confidential_images.generate(model=MODEL, prompt="a red fox", n=2, size="64x64")
    prefix = "data:image/png;base64,"
    assert [size(entry.url.removeprefix(prefix)) for entry in answer.data] == [(64, 64)] * 2


@pytest.mark.parametrize("more", [{"response_format": "b64_json"}, {}])
@pytest.mark.parametrize("query", ["", "?api-version=2025-04-01-preview"])
def test_what_open_webui_asks(proxy, more, query):
    # open-webui 02530d5, backend/open_webui/routers/images.py, image_generations, engine `openai`.
    asked = {"model": MODEL, "prompt": "a red fox", "n": 1, "size": "64x64", **more}
    answer = httpx.post(
        f"{proxy}/v1/images/generations{query}", json=asked, headers={"Authorization": "Bearer any"}, timeout=60
    )
    answer.raise_for_status()
    for image in answer.json()["data"]:
        # It takes a URL where there is one, and what follows its comma.
        found = image["url"].split(",", 1)[1] if image.get("url") else image["b64_json"]
        assert size(found) == (64, 64)


def test_litellm(proxy):
    litellm = pytest.importorskip("litellm")
    answer = litellm.image_generation(
        model=f"openai/{MODEL}", prompt="a red fox", size="64x64", api_base=f"{proxy}/v1", api_key="any"
    )
    assert size(answer.data[0].b64_json) == (64, 64)


def test_langchain(proxy):
    langchain = pytest.importorskip("langchain_community.utilities.dalle_image_generator")
    wrapper = langchain.DallEAPIWrapper(
        model=MODEL, size="64x64", base_url=f"{proxy}/v1", api_key="any"
    )
    assert wrapper.run("a red fox").startswith("data:image/png;base64,")
