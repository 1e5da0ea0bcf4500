// npm's atoma-sdk, unmodified, against our node and no proxy.

import assert from "node:assert/strict";
import { test } from "node:test";

import { AtomaSDK } from "atoma-sdk";

import { serve } from "./serve.mjs";

const MODEL = "obscura/demo";
const DATA_URL = "data:image/png;base64,";

const url = await serve();

/** Width and height in a PNG's first chunk. */
function size(base64) {
  const png = Buffer.from(base64, "base64");
  assert.equal(png.toString("latin1", 1, 4), "PNG");
  return [png.readUInt32BE(16), png.readUInt32BE(20)];
}

test("a private picture, size unset", async () => {
  const sdk = new AtomaSDK({ bearerAuth: "any", serverURL: url });
  const answer = await sdk.confidentialImages.generate({ model: MODEL, prompt: "a red fox", n: 1 });
  assert.equal(answer.data.length, 1);
  assert.ok(answer.data[0].url.startsWith(DATA_URL));
  assert.deepEqual(size(answer.data[0].url.slice(DATA_URL.length)), [256, 256]);
});

test("two private pictures, every parameter", async () => {
  const sdk = new AtomaSDK({ bearerAuth: "any", serverURL: url });
  const answer = await sdk.confidentialImages.generate({
    model: MODEL,
    prompt: "ein Fuchs, 狐",
    n: 2,
    size: "128x64",
    quality: "hd",
    responseFormat: "b64_json",
    style: "vivid",
    user: "user-1234",
  });
  // This SDK's model of an answer drops `b64_json`: the URL is all that reaches its user.
  const urls = answer.data.map((entry) => entry.url);
  assert.deepEqual(urls.map((url) => size(url.slice(DATA_URL.length))), [[128, 64], [128, 64]]);
});

test("the route in clear text", async () => {
  const sdk = new AtomaSDK({ bearerAuth: "any", serverURL: url });
  const answer = await sdk.images.generate({ model: MODEL, prompt: "a boat", n: 1, size: "64x64" });
  assert.deepEqual(size(answer.data[0].url.slice(DATA_URL.length)), [64, 64]);
});
