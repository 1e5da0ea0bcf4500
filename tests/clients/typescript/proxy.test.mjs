// npm's openai, Vercel's AI SDK and Atoma's, unmodified, through `obscura proxy`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { generateImage } from "ai";
import { AtomaSDK } from "atoma-sdk";
import OpenAI from "openai";

import { serve, standBeside } from "./serve.mjs";

const SMALL = { model: "obscura/demo", prompt: "a red fox", size: "64x64" };

const node = await serve();
const proxy = await standBeside(node);
const client = new OpenAI({ apiKey: "any", baseURL: `${proxy}/v1`, maxRetries: 0 });

test("the image is the node's", async () => {
  const direct = new OpenAI({ apiKey: "any", baseURL: `${node}/v1`, maxRetries: 0 });
  const asked = { ...SMALL, seed: 7, response_format: "b64_json" };
  const [expected, found] = [await direct.images.generate(asked), await client.images.generate(asked)];
  assert.equal(found.data[0].b64_json, expected.data[0].b64_json);
  assert.deepEqual(found.usage, expected.usage);
});

test("a stream with partial pictures", async () => {
  const stream = await client.images.generate({ ...SMALL, stream: true, partial_images: 2 });
  const seen = [];
  for await (const event of stream) seen.push(event.type);
  const partial = "image_generation.partial_image";
  assert.deepEqual(seen, [partial, partial, "image_generation.completed"]);
});

test("typed errors", async () => {
  const bad = await client.images.generate({ ...SMALL, n: 0 }).catch((error) => error);
  assert.ok(bad instanceof OpenAI.BadRequestError);
  assert.deepEqual([bad.param, bad.type], ["n", "invalid_request_error"]);
  const other = await client.embeddings.create({ model: "x", input: "y" }).catch((error) => error);
  assert.equal(other.code, "not_sealed");
});

test("the AI SDK", async () => {
  const provider = createOpenAI({ apiKey: "any", baseURL: client.baseURL });
  const { image } = await generateImage({ model: provider.image(SMALL.model), prompt: SMALL.prompt, size: SMALL.size, maxRetries: 0 });
  assert.equal(image.mediaType, "image/png");
  assert.ok(image.uint8Array.length > 100);
});

test("Atoma's SDK", async () => {
  const sdk = new AtomaSDK({ bearerAuth: "any", serverURL: proxy });
  const { data } = await sdk.confidentialImages.generate({ ...SMALL, n: 2 });
  assert.equal(data.length, 2);
  for (const { url } of data) assert.match(url, /^data:image\/png;base64,iVBORw0KGgo/);
});
