"""PyPI's openai, unmodified, against the route in clear text."""

import base64
import io

import httpx
import openai
import pytest
from PIL import Image

from conftest import MODEL

SMALL = {"model": MODEL, "prompt": "a red fox", "size": "64x64"}


@pytest.fixture
def client(node):
    with openai.OpenAI(api_key="any", base_url=f"{node}/v1", max_retries=0) as client:
        yield client


def picture(b64_json):
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def test_three_pictures_and_their_seeds(client):
    answer = client.images.generate(**SMALL, n=3, extra_body={"seed": 70})
    assert (len(answer.data), answer.seed, answer.size) == (3, 70, "64x64")
    assert answer.usage.output_tokens == 3 * 4 * 4
    assert answer.usage.input_tokens_details.text_tokens == answer.usage.input_tokens > 0
    alone = client.images.generate(**SMALL, extra_body={"seed": 72})
    assert alone.data[0].b64_json == answer.data[2].b64_json


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_formats(client, name):
    answer = client.images.generate(**SMALL, output_format=name)
    shown = picture(answer.data[0].b64_json)
    assert (shown.format, shown.size) == (name.upper(), (64, 64))
    assert (answer.output_format, answer.background) == (name, "opaque")


def test_base64_alone_where_it_was_asked_for(client):
    [entry] = client.images.generate(**SMALL, response_format="b64_json").data
    assert entry.url is None and picture(entry.b64_json).size == (64, 64)


def test_azures_client(node):
    # It sends `api-key` and a path with the model in it.
    with openai.AzureOpenAI(
        api_key="any", azure_endpoint=node, api_version="2025-04-01-preview", max_retries=0
    ) as client:
        [entry] = client.images.generate(**SMALL, extra_body={"seed": -1}).data
    assert picture(entry.b64_json).size == (64, 64)
    path = f"{node}/openai/deployments/{MODEL}/images/generations"
    answer = httpx.post(path, json={"prompt": "a fox", "size": "64x64", "n": 1.0})
    assert answer.status_code == 200, answer.text
    assert httpx.post(f"{node}/openai/deployments/other/images/generations", json={"prompt": "a"}).status_code == 404
    assert httpx.post(f"{node}/openai/deployments/{MODEL}/chat/completions", json={}).status_code == 404


def test_a_url_to_fetch(client):
    answer = client.images.generate(**SMALL, response_format="url")
    assert answer.data[0].b64_json is None
    fetched = httpx.get(answer.data[0].url)
    assert fetched.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(fetched.content)).size == (64, 64)


def test_a_stream_with_partial_pictures(client):
    asked = {**SMALL, "quality": "medium", "extra_body": {"seed": 5}}
    stream = client.images.generate(**asked, stream=True, partial_images=3)
    *partial, completed = list(stream)
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 3
    assert [event.partial_image_index for event in partial] == [0, 1, 2]
    assert completed.type == "image_generation.completed"
    assert completed.usage.total_tokens > 0
    whole = client.images.generate(**asked).data[0].b64_json
    assert completed.b64_json == whole
    # Real ones: all different, and the last of them nearest to the picture.
    files = {event.b64_json for event in partial} | {whole}
    assert len(files) == 4
    distances = [distance(event.b64_json, whole) for event in partial]
    assert distances[2] < distances[0]


def distance(one, other):
    one, other = (picture(b64).convert("RGB").tobytes() for b64 in (one, other))
    return sum(abs(a - b) for a, b in zip(one, other))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"size": "100x100"}, "size"),
        ({"quality": "best"}, "quality"),
        ({"background": "transparent"}, "background"),
        ({"stream": True, "partial_images": 4}, "partial_images"),
        ({"extra_body": {"negative_prompt": "blurry"}}, "negative_prompt"),
        ({"extra_body": {"guidance": 2}}, "guidance"),
        ({"extra_body": {"seed": "7"}}, "seed"),
    ],
)
def test_a_bad_request_names_its_field(client, fields, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**{**SMALL, **fields})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.images.generate(model="other", prompt="x")
    assert refused.value.code == "model_not_found"
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


class Flaky(httpx.HTTPTransport):
    """Refuses the first requests as a node with a full queue does."""

    def __init__(self, refusals, headers):
        super().__init__()
        self.left, self.headers, self.asked = refusals, headers, 0

    def handle_request(self, request):
        self.asked += 1
        if self.left:
            self.left -= 1
            error = {"error": {"message": "the queue is full", "type": "rate_limit_error"}}
            return httpx.Response(429, headers=self.headers, json=error)
        return super().handle_request(request)


@pytest.mark.parametrize(
    ("headers", "asked"), [({"retry-after": "0.05"}, 3), ({"x-should-retry": "false"}, 1)]
)
def test_retries_are_honoured(node, headers, asked):
    transport = Flaky(2, headers)
    http = httpx.Client(transport=transport)
    client = openai.OpenAI(api_key="any", base_url=f"{node}/v1", max_retries=2, http_client=http)
    if asked == 1:
        with pytest.raises(openai.RateLimitError):
            client.images.generate(**SMALL)
    else:
        assert client.images.generate(**SMALL).data
    assert transport.asked == asked
