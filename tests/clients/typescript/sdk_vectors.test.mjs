// tests/vectors, and the fixtures of the wire: what every client of this protocol makes of them.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

import { VECTORS, judge, module, vector } from "./sdk.mjs";

const { appraise } = await module("index");
const { events } = await module("client");
const { paddedLength, sealExact } = await module("seal");
const { unhex, utf8, hex } = await module("bytes");
const { isSignedBy } = await module("crypto");

const read = (...names) => readFileSync(path.join(VECTORS, ...names));
const json = vector;
const bytes = (base64) => new Uint8Array(Buffer.from(base64, "base64"));

test("attestation", async (t) => {
  const names = readdirSync(path.join(VECTORS, "attestation"));
  assert.ok(names.length >= 150, `${names.length} cases`);
  for (const name of names) {
    await t.test(name, async () => {
      const one = json("attestation", name, "case.json");
      const { expect } = one;
      const { verdict, checks } = await judge(appraise, one, read("attestation", name, one.report));
      const ids = (wanted) => checks.filter(({ outcome }) => outcome === wanted).map(({ id }) => id);
      assert.deepEqual({ verdict, failing: ids("FAIL"), not_checked: ids("SKIP") }, { verdict: expect.verdict, failing: expect.failing, not_checked: expect.not_checked });
    });
  }
});

test("what is pinned is what the certificates say, which sign themselves, and AMD's roots their signing keys", async () => {
  const { certificate, ecdsaDer, pemChain, rsaPss } = await module("x509");
  const { productionRoots } = await module("roots");
  const file = (...names) => readFileSync(path.join(process.env.OBSCURA_FIXTURES, "../..", ...names));
  const roots = (...names) => file("attestation/roots", ...names);
  const { intel, simulated, nvidia, amd } = productionRoots();
  const same = (pinned, found) => assert.deepEqual(pinned, Object.fromEntries(Object.keys(pinned).map((name) => [name, found[name]])));
  for (const [pinned, der, curve] of [
    [intel, roots("intel-sgx-root.der"), "P-256"], [nvidia, pemChain(roots("nvidia-device-identity.pem").toString())[0], "P-384"],
    [simulated, file("tests/fixtures/attestation/simulated/root.der"), "P-256"],
  ]) {
    const found = certificate(new Uint8Array(der));
    same(pinned, found);
    assert.ok(await ecdsaDer(curve, found.key, found));
  }
  assert.deepEqual(amd.map(({ generation }) => generation), ["milan", "genoa", "turin"]);
  for (const { generation, ark, ask } of amd) {
    const [root, signer] = ["ark", "ask"].map((name) => certificate(pemChain(roots(`amd-${name}-${generation}.pem`).toString())[0]));
    same(ark, root);
    same(ask, signer);
    assert.ok((await rsaPss(root.spki, root)) && (await rsaPss(root.spki, signer)));
    assert.ok(!(await rsaPss(signer.spki, root)));
  }
});

test("a copy of the root that a chain brings along is not looked at", async () => {
  const one = json("attestation", "simulated", "case.json");
  const report = JSON.parse(read("attestation", "simulated", one.report));
  const collateral = JSON.parse(Buffer.from(report.collateral, "base64"));
  let broken = 0;
  for (const [name, chain] of Object.entries(collateral)) {
    const pem = typeof chain === "string" ? chain.split("-----BEGIN CERTIFICATE-----\n") : [];
    if (pem.length < 3) continue;
    // The last certificate's DER no longer begins with a sequence.
    const last = pem.pop();
    collateral[name] = [...pem, `A${last.slice(1)}`].join("-----BEGIN CERTIFICATE-----\n");
    broken += 1;
  }
  assert.ok(broken >= 2, `${broken} chains`);
  const bytes = utf8(JSON.stringify({ ...report, collateral: Buffer.from(JSON.stringify(collateral)).toString("base64") }));
  const { verdict, checks } = await judge(appraise, one, bytes);
  assert.equal(verdict, "accepted", JSON.stringify(checks.filter(({ outcome }) => outcome === "FAIL")));
});

const exchange = ({ node_public, client_secret, salt, nonce, body }) =>
  sealExact(unhex(node_public), utf8(body), { secret: unhex(client_secret), salt: unhex(salt), nonce: unhex(nonce) });
const attested = ({ signing_key, keyset_digest, model_manifest }) =>
  ({ signingKey: unhex(signing_key), keysetDigest: unhex(keyset_digest), modelManifest: unhex(model_manifest) });

test("padding", () => {
  for (const { bytes, padded } of json("wire", "padding.json").cases) assert.equal(paddedLength(bytes), padded, `${bytes}`);
});

test("sealing", async () => {
  for (const { name, expect, envelope, ...given } of json("wire", "seal.json").cases) {
    if (expect === "accept") assert.deepEqual((await exchange(given))[0], envelope, name);
    else await assert.rejects(exchange(given), { name: "ConfigurationError" }, name);
  }
});

test("opening", async () => {
  const file = json("wire", "open.json");
  const [, opener] = await exchange(file.exchange);
  for (const { name, answer, expect } of file.cases) {
    const opened = opener.open(answer, attested(file.attested));
    if (expect === "accept") assert.ok((await opened).length >= 4096, name);
    else await assert.rejects(opened, { name: "AnswerError", fault: expect }, name);
  }
});

test("streams", async () => {
  const file = json("wire", "stream.json");
  const [, opener] = await exchange(file.exchange);
  for (const { name, answers, expect } of file.cases) {
    const body = answers.map((answer) => `data: ${JSON.stringify(answer)}\n\n`).join("");
    const reading = async () => {
      for await (const _ of events(new Response(body, { headers: { "content-type": "text/event-stream" } }), opener, attested(file.attested)));
    };
    if (expect === "accept") await reading();
    else await assert.rejects(reading(), { name: "AnswerError", fault: expect }, name);
  }
});

test("exchanges that Atoma's own SDK computed", async () => {
  const file = JSON.parse(readFileSync(path.join(process.env.OBSCURA_FIXTURES, "wire", "atoma-wire-v1.json")));
  for (const { name, client_secret_hex, node_public_b64, request, request_plaintext } of file.cases) {
    const draws = { secret: unhex(client_secret_hex), salt: bytes(request.salt), nonce: bytes(request.nonce) };
    const [envelope] = await sealExact(bytes(node_public_b64), utf8(request_plaintext), draws);
    for (const [field, value] of Object.entries(envelope)) assert.equal(value, request[field], `${name}: ${field}`);
  }
});

test("binding.json, which Python computed", async () => {
  const { nonceRoot, reportData, gpuNonce } = await module("report");
  const file = path.join(process.env.OBSCURA_FIXTURES, "attestation", "binding.json");
  const { cases } = JSON.parse(readFileSync(file));
  assert.ok(cases.length > 0);
  for (const one of cases) {
    const section = (name) => utf8(one[name]);
    const noncePath = { blind: unhex(one.nonce_path.blind), index: one.nonce_path.index, siblings: one.nonce_path.siblings.map((sibling) => unhex(sibling)) };
    const report = { keyset: section("keyset"), model_manifest: section("model_manifest"), device_evidence: section("device_evidence") };
    const root = await nonceRoot(noncePath, unhex(one.nonce));
    assert.equal(hex(root), one.nonce_root);
    assert.equal(hex(await reportData(report, root)), one.report_data);
    assert.equal(hex(await gpuNonce(report, root)), one.gpu_nonce);
    const [key, signature] = [unhex(JSON.parse(one.keyset).ed25519), unhex(one.possession)];
    assert.ok(await isSignedBy(key, utf8(`obscura/keyset/v1\0${one.keyset}`), signature));
    assert.ok(!(await isSignedBy(key, utf8(one.keyset), signature)));
  }
});
