// npm's openai, unmodified, against the route in clear text.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

import { serve } from "./serve.mjs";

const MODEL = "obscura/demo";
const SMALL = { model: MODEL, prompt: "a red fox", size: "64x64" };

const url = await serve();
const client = new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0 });

test("three pictures, and the seed told back", async () => {
  const answer = await client.images.generate({ ...SMALL, n: 3, seed: 70 });
  assert.deepEqual([answer.data.length, answer.seed, answer.size], [3, 70, "64x64"]);
  assert.equal(answer.usage.output_tokens, 3 * 4 * 4);
});

test("every format", async () => {
  const first = { png: "\x89PNG", jpeg: "\xff\xd8\xff", webp: "RIFF" };
  for (const [format, magic] of Object.entries(first)) {
    const answer = await client.images.generate({ ...SMALL, output_format: format });
    const file = Buffer.from(answer.data[0].b64_json, "base64");
    assert.ok(file.toString("latin1").startsWith(magic), format);
  }
});

test("a URL to fetch", async () => {
  const answer = await client.images.generate({ ...SMALL, response_format: "url" });
  const fetched = await fetch(answer.data[0].url);
  assert.equal(fetched.headers.get("content-type"), "image/png");
});

test("a stream with partial pictures", async () => {
  const stream = await client.images.generate({ ...SMALL, stream: true, partial_images: 2 });
  const seen = [];
  for await (const event of stream) seen.push(event);
  const partial = "image_generation.partial_image";
  assert.deepEqual(seen.map((event) => event.type), [partial, partial, "image_generation.completed"]);
  assert.equal(new Set(seen.map((event) => event.b64_json)).size, 3);
  assert.ok(seen[2].usage.total_tokens > 0);
});

test("a stream that is left", async () => {
  const stream = await client.images.generate({
    ...SMALL, size: "256x256", quality: "high", stream: true, partial_images: 3,
  });
  for await (const event of stream) {
    assert.equal(event.partial_image_index, 0);
    break;
  }
  const next = await client.images.generate(SMALL);
  assert.equal(next.data.length, 1);
});

test("typed errors", async () => {
  const refused = (fields) => client.images.generate({ ...SMALL, ...fields }).catch((error) => error);
  const bad = await refused({ n: 0 });
  assert.ok(bad instanceof OpenAI.BadRequestError);
  assert.deepEqual([bad.param, bad.type], ["n", "invalid_request_error"]);
  assert.ok(bad.requestID);
  const unknown = await refused({ model: "other" });
  assert.ok(unknown instanceof OpenAI.NotFoundError);
  assert.equal(unknown.code, "model_not_found");
});

test("retries are honoured", async () => {
  for (const [headers, expected] of [[{ "retry-after": "0.05" }, 3], [{ "x-should-retry": "false" }, 1]]) {
    let asked = 0;
    const flaky = async (target, options) => {
      asked += 1;
      if (asked > 2) return fetch(target, options);
      return new Response('{"error": {"message": "the queue is full"}}', {
        status: 429, headers: { "content-type": "application/json", ...headers },
      });
    };
    const patient = new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 2, fetch: flaky });
    const answer = await patient.images.generate(SMALL).catch((error) => error);
    assert.equal(answer instanceof OpenAI.RateLimitError, expected === 1);
    assert.equal(asked, expected);
  }
});
