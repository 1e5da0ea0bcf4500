// What of our SDK needs no node: its reader of JSON, whom it speaks to, and which floors it takes.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { module } from "./sdk.mjs";

const { connect, ConfigurationError } = await module("index");
const { parse, NotWhole } = await module("json");
const BUILT = pathToFileURL(path.join(process.env.OBSCURA_SDK, "typescript", "dist", "json.js")).href;

test("JSON is read as it is written", () => {
  assert.deepEqual(parse(' {"a" : ["\\"", "\\\\", "b:{[", 1, -2, true, null, {}], "c\\u00e9": "\\n"} '), {
    a: ['"', "\\", "b:{[", 1, -2, true, null, {}], "cé": "\n",
  });
  assert.equal(parse("18446744073709551615"), 18446744073709551615n);
  assert.ok(parse("1.5") instanceof NotWhole && parse("1e3") instanceof NotWhole);
  for (const [source, message] of [
    ['"a', /not JSON/], ['"a\\"', /not JSON/], ['"a\\', /not JSON/], ['{"a": "b}', /not JSON/], ["01", /not JSON/], ["1.", /not JSON/],
    ['{"a":1,"a":2}', /twice/], ['{"a":1,"\\u0061":2}', /twice/], ['"\\ud800"', /half a character/],
    [`${"[".repeat(129)}${"]".repeat(129)}`, /too deep/], [`${"[".repeat(129)}`, /too deep/],
  ]) assert.throws(() => parse(source), message, source.slice(0, 20));
  for (const source of ["", "[", "]", "{", '{"a"}', '{"a":}', "[1,]", '"a" "b"', '"a\nb"', '"\\x"', "nul", "'a'"]) assert.throws(() => parse(source), source);
});

// In a process of its own, which can be ended: it took an hour where each quote was tried as a beginning.
test("JSON that does not end is refused as soon as it is read", { timeout: 300_000 }, () => {
  for (const source of [
    '"\\"'.concat('\\"'.repeat(2 ** 20)), '{"a'.concat('\\"b'.repeat(2 ** 19)), '"a" '.repeat(2 ** 19), `"a"${" ".repeat(2 ** 21)}`.concat('"'),
    "-".repeat(2 ** 21), "1".repeat(2 ** 21).concat("x"), "\\".repeat(2 ** 21),
  ]) {
    const program = `import { readFileSync } from "node:fs"; const { parse } = await import(${JSON.stringify(BUILT)});
      try { parse(readFileSync(0, "latin1")); } catch { process.exit(7); }`;
    const { status, signal } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { input: source, timeout: 60_000 });
    assert.deepEqual([status, signal], [7, null], source.slice(0, 12));
  }
});

/** Where a client asks for evidence. */
async function asked(url, options = {}) {
  const found = [];
  const fetch = async (to) => (found.push(to), new Response("", { status: 500 }));
  await assert.rejects(connect(url, { ...options, fetch }), { name: "RefusedError" });
  return found.map((to) => to.replace(/[0-9a-f]{64}$/, "N"));
}

test("a node's URL keeps its path", async () => {
  for (const [url, base] of [
    ["https://node.example", "https://node.example"], ["https://node.example/", "https://node.example"],
    ["https://gw.example/obscura", "https://gw.example/obscura"], ["https://gw.example:8443/a/b/", "https://gw.example:8443/a/b"],
    [`https://gw.example/a${"/".repeat(3)}`, "https://gw.example/a"],
  ]) assert.deepEqual(await asked(url), [`${base}/v1/attestation?nonce=N`]);
  for (const url of ["https://node.example?a", "https://node.example/a?b=c", "https://node.example/#", "https://node.example/a#b", "https://node.example?"]) {
    await assert.rejects(connect(url), ConfigurationError, url);
  }
});

test("OpenAI's client asks below that path", async () => {
  const { openaiFetch } = await module("openai");
  const client = { url: "https://gw.example/obscura", exchange: async (operation) => ({ headers: new Headers(), body: { operation, data: [] } }) };
  const ask = (url) => openaiFetch(client)(url, { method: "POST", body: "{}" });
  assert.equal((await (await ask("https://gw.example/obscura/v1/images/edits")).json()).operation, "edits");
  for (const url of ["https://gw.example/v1/images/edits", "https://gw.example/obscurav1/images/edits", "https://gw.example/obscura/v1/images", "https://other.example/obscura/v1/images/edits"]) {
    assert.equal((await ask(url)).status, 404, url);
  }
});

test("an API key goes to this very machine, or through TLS", async () => {
  const apiKey = "k";
  for (const url of ["http://localhost:1", "http://127.0.0.1:1", "http://127.9.9.9:1", "http://[::1]:1", "http://[::ffff:127.0.0.1]:1", "https://node.localhost"]) {
    assert.equal((await asked(url, { apiKey })).length, 1, url);
  }
  // A resolver may know what is below `localhost`.
  for (const url of ["http://node.localhost", "http://localhost.example", "http://localhost.", "http://10.0.0.1", "http://[::ffff:10.0.0.1]"]) {
    await assert.rejects(connect(url, { apiKey }), ConfigurationError, url);
  }
});

test("the base of OpenAI's clients is no node's URL", async () => {
  for (const url of ["https://node.example/v1", "https://node.example/obscura/v1/"]) {
    await assert.rejects(connect(url), { name: "ConfigurationError", message: /leave that out/ }, url);
  }
});

test("an API key that no header carries is no fault of the node", async () => {
  for (const apiKey of ["", "k\n", "two words", "é", "k".repeat(4097)]) {
    await assert.rejects(connect("https://node.example", { apiKey }), ConfigurationError, apiKey);
  }
});

test("a floor without an FMC takes no report that has one", async () => {
  const { firmware } = await module("snp");
  const { Checks } = await module("checks");
  const levels = { fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 5 };
  const judged = (hasFmc, floor) => {
    const checks = new Checks();
    firmware({ tcb: () => ({ ...levels, fmc: hasFmc ? 1 : 0 }), hasFmc }, "turin", { min_tcb: { turin: floor } }, checks);
    return checks.all.map(({ id, outcome, detail }) => [id, outcome, detail.includes("no rule")]);
  };
  const { fmc: _, ...others } = levels;
  assert.deepEqual(judged(true, { ...others, fmc: 0 }), [["snp.tcb", "PASS", false]]);
  assert.deepEqual(judged(true, { ...others, fmc: 2 }), [["snp.tcb", "FAIL", false]]);
  assert.deepEqual(judged(true, others), [["snp.tcb", "FAIL", true]]);
  // Reports of older processors have none, and need no rule for it.
  assert.deepEqual(judged(false, others), [["snp.tcb", "PASS", false]]);
  assert.deepEqual(judged(false, { ...others, fmc: 1 }), [["snp.tcb", "FAIL", false]]);
});
