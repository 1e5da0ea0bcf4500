// A relay that lies, between our SDK and a real node: everything it tries is refused, and no byte of a prompt leaves to
// a node that did not prove itself, which is read off what the relay received.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import path from "node:path";
import { after, test } from "node:test";

import { EVIDENCE, MODEL, PROMPT, SEALED, SMALL, assertNoPrompt, module, paths, relay } from "./sdk.mjs";
import { serve } from "./serve.mjs";

const { connect, AnswerError, ConnectionError, NodeUntrustedError, RefusedError } = await module("index");
const { hash } = await module("blake2b");

const TRUST = { acceptSimulated: true };
const [node, other] = await Promise.all([serve({ plaintext: false }), serve({ plaintext: false })]);
const wire = await relay(node);
const json = (change) => async ({ forward }) => {
  const answer = await forward();
  return { ...answer, body: JSON.stringify(change(JSON.parse(answer.body))) };
};
const flipped = (base64, at = 0) => {
  const bytes = Buffer.from(base64, "base64");
  bytes[at < 0 ? bytes.length + at : at] ^= 1;
  return bytes.toString("base64");
};
const failing = (error) => error.checks.filter(({ outcome }) => outcome === "FAIL").map(({ id }) => id);

/** Refused before anything but the question for evidence was sent. */
async function refusesEvidence(expected, url = wire.url) {
  const sent = wire.sent.length;
  const error = await connect(url, TRUST).then((o) => o.generate(SMALL)).then(() => assert.fail("accepted"), (error) => error);
  if (Array.isArray(expected)) {
    assert.ok(error instanceof NodeUntrustedError, error.stack);
    assert.deepEqual(failing(error), expected);
  } else assert.ok(error instanceof expected, error.stack);
  assert.ok(wire.sent.slice(sent).every(({ path, head, body }) => (assertNoPrompt(head + body), path === EVIDENCE && body === "")));
}

test("evidence that is old, another's, or touched", async () => {
  const old = await (await fetch(`${node}${EVIDENCE}?nonce=${"5a".repeat(32)}`)).json();
  const others = await (await fetch(`${other}${EVIDENCE}?nonce=${"5a".repeat(32)}`)).json();
  const keyset = (change) => (report) => ({ ...report, keyset: Buffer.from(change(Buffer.from(report.keyset, "base64").toString())).toString("base64") });
  const x25519 = JSON.parse(Buffer.from(others.keyset, "base64").toString()).x25519;
  for (const [change, expected] of [
    [() => old, ["binding.report_data"]],
    [({ nonce }) => ({ ...old, nonce }), ["binding.report_data"]],
    [({ nonce }) => ({ ...others, nonce }), ["binding.report_data"]],
    [keyset((text) => text.replace(/"x25519":"[0-9a-f]+"/, `"x25519":"${x25519}"`)), ["keyset.possession", "binding.report_data"]],
    [keyset((text) => text.replace(/"not_after":(\d)/, '"not_after":9$1')), ["keyset.possession", "keyset.lifetime", "binding.report_data"]],
    [(report) => ({ ...report, keyset: others.keyset, possession: others.possession }), ["binding.report_data"]],
    [(report) => ({ ...report, model_manifest: flipped(report.model_manifest) }), ["tdx.rtmr3", "binding.report_data"]],
    [(report) => ({ ...report, possession: flipped(report.possession) }), ["keyset.possession"]],
    [(report) => ({ ...report, quote: flipped(report.quote, 600) }), ["simulated.quote"]],
    [(report) => ({ ...report, quote: Buffer.concat([Buffer.from(report.quote, "base64"), Buffer.from([1])]).toString("base64") }), ["simulated.quote"]],
    [(report) => ({ ...report, platform: "tdx" }), ["configuration.digest", "model.manifest", "tdx.quote", "gpu.evidence"]],
    [(report) => ({ ...report, platform: "snp" }), ["configuration.digest", "model.manifest", "snp.report", "gpu.evidence"]],
    [(report) => ({ ...report, nonce: report.nonce.toUpperCase().replace(/\d/g, "A") }), ["report.format"]],
    [(report) => ({ ...report, more: "" }), ["report.format"]],
    [(report) => ({ ...report, quote: "A".repeat(60_000) }), ["report.format"]],
    [() => ({}), ["report.format"]],
    [() => [], ["report.format"]],
  ]) {
    wire.reset();
    wire.evidence = json(change);
    await refusesEvidence(expected);
  }
});

test("what is no evidence", async () => {
  const answer = (status, headers, body) => async () => ({ status, headers, body });
  const type = { "content-type": "application/json" };
  for (const [evidence, expected] of [
    [answer(200, type, "{"), ["report.format"]],
    [answer(200, type, ""), ["report.format"]],
    [answer(200, type, Buffer.from([0xff, 0xfe])), ["report.format"]],
    [answer(200, type, " ".repeat(3 * 1024 * 1024)), ConnectionError],
    [answer(200, { "content-type": "text/html" }, "<p>"), ConnectionError],
    [answer(500, type, "no"), RefusedError],
    [answer(503, { "retry-after": "5" }, "{}"), RefusedError],
    [async ({ forward }) => ({ ...(await forward()), body: (await forward()).body.subarray(0, 5000) }), ["report.format"]],
  ]) {
    wire.reset();
    wire.evidence = evidence;
    await refusesEvidence(expected);
  }
});

test("a redirect is followed nowhere", async () => {
  const trap = { asked: 0 };
  const server = createServer((_, response) => ((trap.asked += 1), response.end("{}")));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  after(() => server.close());
  const location = `http://127.0.0.1:${server.address().port}/`;
  for (const status of [301, 302, 303, 307, 308]) {
    wire.reset();
    wire.evidence = async () => ({ status, headers: { location }, body: "" });
    await refusesEvidence(ConnectionError);
    wire.reset();
    const o = await connect(wire.url, TRUST);
    wire.answer = async () => ({ status, headers: { location }, body: "" });
    await assert.rejects(o.generate(SMALL), ConnectionError);
    assert.deepEqual(paths(wire), [EVIDENCE, SEALED]);
  }
  assert.equal(trap.asked, 0);
});

test("another node's own evidence is that node's: the first cannot open what was sealed to it", async () => {
  wire.reset();
  wire.evidence = ({ forward }) => forward(other);
  const o = await connect(wire.url, TRUST);
  await assert.rejects(o.generate(SMALL), { status: 422, code: "stale_key" });
  assert.deepEqual(paths(wire), [EVIDENCE, SEALED, EVIDENCE, SEALED]);
  wire.sent.forEach(({ head, body }) => assertNoPrompt(head + body));
});

test("an answer that is not the attested node's, to this very request", async () => {
  wire.reset();
  const o = await connect(wire.url, TRUST);
  let kept;
  wire.answer = json((answer) => (kept = answer));
  await o.generate(SMALL);
  const clear = JSON.stringify({ created: 1, data: [{ url: "data:image/png;base64,AAAA" }] });
  const changes = [
    ["no receipt", ({ receipt: _, ...rest }) => rest, /no receipt/],
    ["another's receipt", (answer) => ({ ...answer, receipt: kept.receipt }), /receipt does not hold/],
    ["a flipped receipt", (answer) => ({ ...answer, receipt: flipped(answer.receipt) }), /receipt does not hold/],
    ["no signature", ({ signature: _, ...rest }) => rest, /no signature/],
    ["a flipped signature", (answer) => ({ ...answer, signature: flipped(answer.signature, 9) }), /signature does not hold/],
    ["another scheme", (answer) => ({ ...answer, signature: flipped(answer.signature, 0) }), /signature does not hold/],
    ["a signature over another hash", (answer) => ({ ...answer, signature: kept.signature }), /signature does not hold/],
    ["a flipped hash", (answer) => ({ ...answer, response_hash: flipped(answer.response_hash) }), /hash/],
    ["a flipped bit", (answer) => ({ ...answer, ciphertext: flipped(answer.ciphertext, 100) }), /decrypted/],
    ["a flipped tag", (answer) => ({ ...answer, ciphertext: flipped(answer.ciphertext, -1) }), /decrypted/],
    ["a flipped nonce", (answer) => ({ ...answer, nonce: flipped(answer.nonce) }), /decrypted/],
    ["another request's answer", () => kept, /decrypted/],
    ["base64 that is not canonical", (answer) => ({ ...answer, nonce: `${answer.nonce}\n` }), /malformed/],
    ["fields of another type", (answer) => ({ ...answer, ciphertext: [answer.ciphertext] }), /malformed/],
    ["an answer in clear text", () => JSON.parse(clear), /no nonce/],
  ];
  for (const [name, change, message] of changes) {
    wire.answer = json(change);
    await assert.rejects(o.generate(SMALL), (error) => (assert.ok(error instanceof AnswerError, `${name}: ${error.stack}`), assert.match(error.message, message, name), true));
  }
  wire.answer = async ({ body }) => {
    const { ciphertext, nonce, plaintext_body_hash } = JSON.parse(body);
    return { status: 200, headers: {}, body: JSON.stringify({ ...kept, ciphertext, nonce, response_hash: plaintext_body_hash }) };
  };
  await assert.rejects(o.generate(SMALL), /sent back/);
  for (const [headers, body] of [[{ "content-type": "text/html" }, "<p>"], [{}, "no"], [{}, ""], [{}, "[]"]]) {
    wire.answer = async () => ({ status: 200, headers, body });
    await assert.rejects(o.generate(SMALL), ConnectionError);
  }
  wire.reset();
  assert.equal((await o.generate(SMALL)).data.length, 1);
});

test("a refusal that is sealed must hold too", async () => {
  wire.reset();
  const o = await connect(wire.url, TRUST);
  wire.answer = json((answer) => ({ ...answer, receipt: flipped(answer.receipt) }));
  await assert.rejects(o.generate({ ...SMALL, n: 0 }), AnswerError);
  wire.answer = async () => ({ status: 429, headers: { "retry-after": "20" }, body: '{"error": {"message": "full \\u001b[2J\\u202e"}}' });
  await assert.rejects(o.generate(SMALL), (error) => {
    assert.deepEqual([error.status, error.retryAfter, error.attested], [429, 20, false]);
    assert.doesNotMatch(error.message, /\p{C}/u);
    return true;
  });
});

test("events that are dropped, swapped, repeated, cut, foreign or touched", async () => {
  const asked = { ...SMALL, partial_images: 3 };
  wire.reset();
  const o = await connect(wire.url, TRUST);
  let kept;
  const read = async () => {
    const seen = [];
    for await (const event of o.stream(asked)) seen.push(event);
    return seen;
  };
  wire.events = (events) => (kept = events);
  assert.equal((await read()).length, 4);
  const touched = (event) => `data: ${JSON.stringify({ ...JSON.parse(event.slice(5)), ciphertext: flipped(JSON.parse(event.slice(5)).ciphertext, 50) })}`;
  for (const [name, change, message] of [
    ["the first is missing", (events) => events.slice(1), /event 1 .* where 0/],
    ["one is missing", ([a, , ...rest]) => [a, ...rest], /event 2 .* where 1/],
    ["the last is missing", (events) => events.slice(0, -1), /cut off/],
    ["all are missing", () => [], /cut off/],
    ["two are swapped", ([a, b, ...rest]) => [b, a, ...rest], /event 1 .* where 0/],
    ["one is repeated", ([a, ...rest]) => [a, a, ...rest], /event 0 .* where 1/],
    ["the last is cut within", (events) => [...events.slice(0, -1), events.at(-1).slice(0, -40)], /shape/],
    ["another answer's is put in", ([a, ...rest]) => [a, kept[1], ...rest.slice(1)], /decrypted/],
    ["one is touched", ([a, b, ...rest]) => [a, touched(b), ...rest], /decrypted/],
    ["one is no JSON", ([a, ...rest]) => [a, "data: [DONE]", ...rest], /shape/],
  ]) {
    wire.events = change;
    await assert.rejects(read(), (error) => (assert.match(error.message, message, name), true));
  }
  // What follows the last event is not read.
  wire.events = (events) => [...events, events[0], "data: x"];
  assert.equal((await read()).length, 4);
  wire.events = (events) => events.flatMap((event) => [": keep alive", "event: other", event]);
  assert.equal((await read()).length, 4);
});

test("through openai, a stream that does not hold up throws", async () => {
  const { default: OpenAI } = await import("openai");
  wire.reset();
  const o = await connect(wire.url, TRUST);
  const client = new OpenAI({ apiKey: "any", baseURL: `${wire.url}/v1`, maxRetries: 0, fetch: o.openaiFetch() });
  wire.events = (events) => events.slice(0, -1);
  const stream = await client.images.generate({ ...SMALL, stream: true, partial_images: 1 });
  await assert.rejects(async () => {
    for await (const _ of stream);
  }, /cut off/);
  wire.reset();
  wire.answer = json(({ receipt: _, ...rest }) => rest);
  await assert.rejects(client.images.generate(SMALL), { status: 502, code: "answer_untrusted" });
});

test("keys that have changed are asked for again, once, and evidence that has turned bad ends it", async () => {
  const stale = async () => ({ status: 422, headers: { "content-type": "application/json" }, body: '{"error": {"message": "x", "code": "stale_key"}}' });
  wire.reset();
  const o = await connect(wire.url, TRUST);
  let asked = 0;
  wire.answer = ({ forward }) => (++asked === 1 ? stale() : forward());
  assert.equal((await o.generate(SMALL)).data.length, 1);
  assert.deepEqual(paths(wire), [EVIDENCE, SEALED, EVIDENCE, SEALED]);
  const keys = wire.sent.filter(({ path }) => path === SEALED).map(({ body }) => JSON.parse(body).client_dh_public_key);
  assert.equal(new Set(keys).size, 2, "sealed afresh");
  wire.answer = stale;
  await assert.rejects(o.generate(SMALL), { status: 422 });
  wire.evidence = json((report) => ({ ...report, possession: flipped(report.possession) }));
  await assert.rejects(o.generate(SMALL), NodeUntrustedError);
  const sealed = paths(wire).filter((path) => path === SEALED).length;
  await assert.rejects(o.generate(SMALL), NodeUntrustedError);
  assert.equal(paths(wire).filter((path) => path === SEALED).length, sealed, "nothing more was sent");
  wire.reset();
  assert.equal((await o.generate(SMALL)).data.length, 1, "and trusted again when it proves itself again");
});

test("evidence is asked for again after ten minutes, and where the clock goes back", async () => {
  wire.reset();
  const start = Math.floor(Date.now() / 1000);
  let now = start;
  const o = await connect(wire.url, { ...TRUST, now: () => now });
  await o.generate(SMALL);
  assert.deepEqual(paths(wire), [EVIDENCE, SEALED]);
  now = start + 601;
  await Promise.all([o.generate(SMALL), o.generate(SMALL)]);
  assert.deepEqual(paths(wire).slice(2).sort(), [EVIDENCE, SEALED, SEALED], "once for both");
  now = start;
  await o.generate(SMALL);
  assert.deepEqual(paths(wire).slice(5), [EVIDENCE, SEALED]);
  now = start + 400 * 86_400;
  await assert.rejects(o.generate(SMALL), NodeUntrustedError);
  assert.equal(paths(wire).at(-1), EVIDENCE);
});

test("each nonce is new", async () => {
  wire.reset();
  for (let i = 0; i < 3; i++) await connect(wire.url, TRUST);
  const nonces = wire.sent.map(({ nonce }) => nonce);
  assert.ok(new Set(nonces).size === 3 && nonces.every((nonce) => /^[0-9a-f]{64}$/.test(nonce)));
});

test("a request that is called off stops", async () => {
  wire.reset();
  const o = await connect(wire.url, TRUST);
  await assert.rejects(o.generate(SMALL, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.deepEqual(paths(wire), [EVIDENCE]);
  const controller = new AbortController();
  wire.answer = async ({ forward }) => (setTimeout(() => controller.abort(), 10), forward());
  await assert.rejects(o.generate({ ...SMALL, size: "256x256", quality: "high" }, { signal: controller.signal }), { name: "AbortError" });
});

test("a process whose stream failed ends", async () => {
  // A stream that stays open after an event that does not hold up.
  wire.reset();
  wire.events = undefined;
  const open = createServer((request, response) => {
    if (request.url.startsWith(EVIDENCE)) return fetch(node + request.url).then((answer) => answer.text()).then((body) => response.end(body));
    response.writeHead(200, { "content-type": "text/event-stream" });
    return response.write('data: {"ciphertext": "AAAA"}\n\n');
  });
  open.listen(0, "127.0.0.1");
  await once(open, "listening");
  after(() => (open.closeAllConnections(), open.close()));
  const script = `
    const { connect } = await import(${JSON.stringify(path.join(process.env.OBSCURA_SDK, "typescript/dist/index.js"))});
    const o = await connect("http://127.0.0.1:${open.address().port}", { acceptSimulated: true });
    await o.stream(${JSON.stringify({ model: MODEL, prompt: PROMPT })}).next().catch((error) => console.log(error.name));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"], timeout: 20_000 });
  const [name] = await Promise.all([once(child.stdout, "data"), once(child, "exit").then(([code]) => assert.equal(code, 0))]);
  assert.equal(String(name).trim(), "AnswerError");
});

test("the hash is BLAKE2b-256 and no longer one cut short", () => {
  // RFC 7693's function with a digest of 32 bytes, over nothing.
  assert.equal(Buffer.from(hash(new Uint8Array())).toString("hex"), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
});
