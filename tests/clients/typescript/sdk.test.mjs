// Our SDK against the program itself, by itself and behind npm's openai.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";

import OpenAI from "openai";

import { MODEL, SMALL, assertNoPrompt, module, paths, relay } from "./sdk.mjs";
import { serve } from "./serve.mjs";

const { connect, verify, ConfigurationError, NodeUntrustedError, RefusedError } = await module("index");

const url = await serve({ plaintext: false });
const wire = await relay(url);
const TRUST = { acceptSimulated: true };
const o = await connect(wire.url, TRUST);
const client = new OpenAI({ apiKey: "any", baseURL: `${wire.url}/v1`, maxRetries: 0, fetch: o.openaiFetch() });
const isPng = (base64) => assert.equal(Buffer.from(base64, "base64").toString("latin1", 1, 4), "PNG");

test("what is compiled in is what attestation/ and crates/attest say", () => {
  execFileSync("python3", [path.join(process.env.OBSCURA_FIXTURES, "../../sdk/typescript/generate.py"), "--check"]);
});

test("a node is verified check by check", async () => {
  const { verdict, platform, checks, attested } = await verify(url, TRUST);
  assert.deepEqual([verdict, platform], ["accepted", "simulated"]);
  assert.ok(checks.length > 25 && checks.every(({ title }) => title.length > 0));
  assert.equal(attested.exchangeKey.length, 32);
  const again = await o.verify();
  assert.deepEqual(again.checks.map(({ id }) => id), checks.map(({ id }) => id));
});

test("a simulated node is refused unless it is asked for by name", async () => {
  await assert.rejects(connect(url), (error) => {
    assert.ok(error instanceof NodeUntrustedError);
    assert.ok(error.checks.some(({ id, outcome }) => id === "platform.allowed" && outcome === "FAIL"));
    return true;
  });
  await assert.rejects(connect(url, { policy: { platforms: ["simulated"] } }), ConfigurationError);
  await assert.rejects(connect(url, { policy: { platform: ["tdx"] } }), ConfigurationError);
});

test("images, and events in their order", async () => {
  const answer = await o.generate({ ...SMALL, n: 2, seed: 7 });
  assert.deepEqual([answer.data.length, answer.seed], [2, 7]);
  isPng(answer.data[1].url.split(",")[1]);
  const seen = [];
  for await (const event of o.stream({ ...SMALL, partial_images: 2, progress: true })) seen.push(event);
  assert.deepEqual(seen.map(({ sequence_number }) => sequence_number), seen.map((_, index) => index));
  assert.equal(seen.filter(({ type }) => type === "image_generation.partial_image").length, 2);
  assert.equal(seen.at(-1).type, "image_generation.completed");
});

test("what was sent says nothing of the prompt, and has one length", async () => {
  wire.reset();
  for (const prompt of [SMALL.prompt, SMALL.prompt, `${SMALL.prompt}, and a rather longer description of the same`]) await o.generate({ ...SMALL, prompt });
  const bodies = wire.sent.map(({ body }) => JSON.parse(body));
  wire.sent.forEach(({ head, body }) => assertNoPrompt(head + body));
  assert.equal(new Set(bodies.map(({ ciphertext }) => ciphertext.length)).size, 1);
  assert.equal(new Set(bodies.map(({ plaintext_body_hash }) => plaintext_body_hash)).size, 3);
  assert.equal(new Set(bodies.map(({ client_dh_public_key }) => client_dh_public_key)).size, 3);
});

test("refusals say why, sealed where only the client may know", async () => {
  await assert.rejects(o.generate({ ...SMALL, n: 0 }), (error) => {
    assert.ok(error instanceof RefusedError);
    assert.deepEqual([error.status, error.param, error.attested], [400, "n", true]);
    return true;
  });
  await assert.rejects(o.generate({ ...SMALL, model: "other" }), { status: 404, code: "model_not_found" });
  await assert.rejects(o.generate({ prompt: SMALL.prompt }), { status: 400, param: "model" });
});

test("openai: images", async () => {
  wire.reset();
  const answer = await client.images.generate({ ...SMALL, n: 3, seed: 70 });
  assert.deepEqual([answer.data.length, answer.seed, answer.size], [3, 70, "64x64"]);
  assert.equal(answer.usage.output_tokens, 3 * 4 * 4);
  answer.data.forEach(({ b64_json, url }) => (isPng(b64_json), assert.equal(url, undefined)));
  assert.ok(answer._request_id);
  const asked = await client.images.generate({ ...SMALL, response_format: "url" });
  isPng(asked.data[0].url.split(",")[1]);
  wire.sent.forEach(({ head, body }) => assertNoPrompt(head + body));
});

test("openai: a stream with partial images", async () => {
  const stream = await client.images.generate({ ...SMALL, stream: true, partial_images: 2 });
  const seen = [];
  for await (const event of stream) seen.push(event);
  const partial = "image_generation.partial_image";
  assert.deepEqual(seen.map(({ type }) => type), [partial, partial, "image_generation.completed"]);
  assert.equal(new Set(seen.map(({ b64_json }) => b64_json)).size, 3);
});

test("openai: a stream that is left stops its request", async () => {
  const stream = await client.images.generate({ ...SMALL, size: "256x256", quality: "high", stream: true, partial_images: 3 });
  for await (const event of stream) {
    assert.equal(event.partial_image_index, 0);
    break;
  }
  assert.equal((await client.images.generate(SMALL)).data.length, 1);
});

test("openai: typed errors", async () => {
  const bad = await client.images.generate({ ...SMALL, n: 0 }).catch((error) => error);
  assert.ok(bad instanceof OpenAI.BadRequestError);
  assert.deepEqual([bad.param, bad.type, bad.requestID !== undefined], ["n", "invalid_request_error", true]);
  const unknown = await client.images.generate({ ...SMALL, model: "other" }).catch((error) => error);
  assert.ok(unknown instanceof OpenAI.NotFoundError);
  assert.equal(unknown.code, "model_not_found");
  const stream = await client.images.generate({ ...SMALL, stream: true, partial_images: 9 }).catch((error) => error);
  assert.ok(stream instanceof OpenAI.BadRequestError);
  assert.equal(stream.param, "partial_images");
});

test("openai: retries are honoured", async () => {
  for (const [headers, retried] of [[{ "retry-after": "0.05" }, true], [{ "x-should-retry": "false" }, false]]) {
    let asked = 0;
    wire.reset();
    wire.answer = async ({ forward }) => {
      asked += 1;
      if (asked > 2) return forward();
      return { status: 429, headers: { "content-type": "application/json", ...headers }, body: '{"error": {"message": "the queue is full", "type": "rate_limit_error"}}' };
    };
    const patient = new OpenAI({ apiKey: "any", baseURL: `${wire.url}/v1`, maxRetries: 2, fetch: o.openaiFetch() });
    const answer = await patient.images.generate(SMALL).catch((error) => error);
    assert.equal(answer instanceof OpenAI.RateLimitError, !retried);
    assert.equal(asked, retried ? 3 : 1);
  }
  wire.reset();
});

test("openai: what is not sealed goes nowhere", async () => {
  wire.reset();
  const image = new File([Buffer.from("x")], "x.png", { type: "image/png" });
  for (const asked of [
    () => client.chat.completions.create({ model: MODEL, messages: [{ role: "user", content: SMALL.prompt }] }),
    () => client.images.createVariation({ image }),
    () => client.models.list(),
  ]) {
    const refused = await asked().catch((error) => error);
    assert.ok(refused instanceof OpenAI.NotFoundError, String(refused));
    assert.equal(refused.code, "not_sealed");
  }
  const elsewhere = new OpenAI({ apiKey: "any", baseURL: "http://127.0.0.1:9/v1", maxRetries: 0, fetch: o.openaiFetch() });
  assert.equal((await elsewhere.images.generate(SMALL).catch((error) => error)).code, "not_sealed");
  assert.deepEqual(paths(wire), []);
});

const EDITS = "/v1/confidential/images/edits";
/** PNG's first bytes, and enough after them to be found again. */
const FILE = Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), Buffer.from("an input image that nobody else may see")]);

test("an edit's files are known by their content, and bounded", async () => {
  const { dataUrls } = await module("images");
  const webp = Buffer.from("RIFF\0\0\0\0WEBPVP8 ");
  const data = `data:image/png;base64,${FILE.toString("base64")}`;
  assert.deepEqual(await dataUrls([FILE, new Blob([Buffer.from([0xff, 0xd8, 0xff])]), new File([webp], "x.png"), data]), [
    data, "data:image/jpeg;base64,/9j/", `data:image/webp;base64,${webp.toString("base64")}`, data,
  ]);
  const large = new Uint8Array(10_000_001);
  large.set(FILE);
  for (const [images, message] of [
    [[Buffer.from("GIF89a")], /PNG, JPEG or WebP/], [[new Blob([])], /PNG, JPEG or WebP/],
    [["https://node.example/x.png"], /data: URL/], [["data:image/png,x"], /data: URL/], [[""], /data: URL/],
    [[large, large], /20000000 bytes/],
  ]) await assert.rejects(dataUrls(images), (error) => error instanceof ConfigurationError && message.test(error.message));
});

test("a form says what the JSON would", async () => {
  const { formRequest } = await module("openai");
  const form = (...fields) => fields.reduce((all, [name, value]) => (all.append(name, value), all), new FormData());
  const file = new File([FILE], "x.png");
  const { images, ...request } = await formRequest(form(["image[]", file], ["image", file], ["prompt", "1"], ["n", "2"], ["stream", "true"], ["guidance", "3.5"], ["seed", "-1"], ["other", "7"]));
  assert.deepEqual(request, { prompt: "1", n: 2, stream: true, guidance: 3.5, seed: -1, other: "7" });
  assert.equal(images.length, 2);
  // What is no number is the node's to refuse, by its name.
  assert.equal((await formRequest(form(["n", "two"]))).n, "two");
  for (const [fields, message] of [
    [[["n", "1"], ["n", "2"]], /n stands twice/], [[["image", "x"]], /image is no file/], [[["mask", "x"]], /mask is no file/], [[["prompt", file]], /prompt is a file/],
  ]) await assert.rejects(formRequest(form(...fields)), message);
});

test("an edit is sealed, image and words", async () => {
  wire.reset();
  // The demo model takes no input images: what is looked at is what was sent.
  const sent = [
    () => o.generate({ ...SMALL, images: [FILE] }),
    () => client.images.edit({ ...SMALL, image: new File([FILE], "x.png") }),
    () => client.images.edit({ ...SMALL, image: [new File([FILE], "x.png"), new File([FILE], "y.png")] }),
  ];
  for (const send of sent) await assert.rejects(send());
  assert.deepEqual(paths(wire), sent.map(() => EDITS));
  for (const { head, body } of wire.sent) {
    assertNoPrompt(head + body);
    assert.ok(!body.includes(FILE.subarray(9, 30).toString("base64").slice(2, -4)) && !body.includes("nobody else"));
    assert.equal(JSON.parse(body).model_name, MODEL);
  }
  wire.reset();
  const refused = await client.images.edit({ ...SMALL, image: new File([Buffer.from("GIF89a")], "x.gif") }).catch((error) => error);
  assert.deepEqual([refused.status, /PNG, JPEG or WebP.*nothing was sent/.test(refused.message)], [400, true]);
  assert.deepEqual(paths(wire), []);
});

test("openai: a node that fails is a 502 that is not retried", async () => {
  const { Obscura } = await module("index");
  wire.reset();
  const strict = new OpenAI({ apiKey: "any", baseURL: `${wire.url}/v1`, fetch: new Obscura(wire.url, {}).openaiFetch() });
  const refused = await strict.images.generate(SMALL).catch((error) => error);
  assert.deepEqual([refused.status, refused.code], [502, "node_untrusted"]);
  assert.match(refused.message, /platform\.allowed/);
  assert.deepEqual(paths(wire), ["/v1/attestation"]);
});

test("an API key does not travel in clear text to another machine", async () => {
  for (const node of ["http://node.example", "http://127.0.0.1.example", "http://10.0.0.1", "http://[::ffff:10.0.0.1]", "http://localhost.example"]) {
    await assert.rejects(connect(node, { apiKey: "k", ...TRUST }), ConfigurationError);
  }
  for (const node of ["ftp://node.example", "node.example", "", "http://user:pass@127.0.0.1:9", "file:///x"]) {
    await assert.rejects(connect(node, TRUST), ConfigurationError, node);
  }
  await assert.rejects(connect("http://127.0.0.1:9", { apiKey: "k", ...TRUST }), { name: "ConnectionError" });
});
