// Reports with a random change: TypeScript and Rust come to the same verdict, by the same checks. Rust is asked through
// the Python SDK, which is made of it. MUTATED_REPORTS says how many; the changes are the same each time.
//
// TypeScript may refuse what Rust takes, rarely, and by these checks alone: it does not read a PEM text whose last
// certificate, a copy of the root that nobody needs, is cut, nor a certificate that names another algorithm outside of
// what is signed than inside (RFC 5280 §4.1.1.2).

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { test } from "node:test";

import { VECTORS, judge, module, vector } from "./sdk.mjs";

const COUNT = Number(process.env.MUTATED_REPORTS ?? 300);
const PYTHON = process.env.SDK_PYTHON;
const BASES = ["simulated", "nonce-of-three", "keyset-tls", "gpu-nonce", "tdx-v4-first", "tdx-v5-td15ex-first", "snp-published", "snp-whole", "snp-genoa"];
const STRICTER = ["simulated.quote", "tdx.quote", "snp.chain"];
const SECTIONS = ["keyset", "possession", "model_manifest", "device_evidence", "event_log", "quote", "collateral"];

/** Mulberry32: whole numbers below `n`, the same each time. */
function draws(seed) {
  return (n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

/** A byte that is set, put in or taken out; a tail that is cut off or comes twice; a flipped bit. */
function touched(bytes, draw) {
  const at = draw(bytes.length);
  const byte = [0, 1, 0x7f, 0x80, 0xff, 0x22, 0x30, draw(256)][draw(8)];
  const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
  return [
    () => Buffer.concat([head, Buffer.from([byte]), tail.subarray(1)]),
    () => Buffer.concat([head, Buffer.from([byte]), tail]),
    () => Buffer.concat([head, tail.subarray(1)]),
    () => head,
    () => Buffer.concat([bytes, tail.subarray(0, 64)]),
    () => Buffer.concat([head, Buffer.from([tail[0] ^ (1 << draw(8))]), tail.subarray(1)]),
  ][draw(6)]();
}

/** The report with a change in its JSON, in a section, or in what a section's JSON holds. */
function mutated(report, draw) {
  if (draw(8) === 0) return touched(report, draw);
  const json = JSON.parse(report);
  const name = SECTIONS[draw(SECTIONS.length)];
  const section = Buffer.from(json[name], "base64");
  if (section.length === 0) return touched(report, draw);
  let inner;
  try {
    inner = JSON.parse(section);
  } catch {}
  const fields = Object.entries(inner ?? {}).filter(([, value]) => typeof value === "string" && value.length > 0);
  if (fields.length > 0 && draw(2) === 0) {
    const [field, value] = fields[draw(fields.length)];
    inner[field] = touched(Buffer.from(value), draw).toString();
    json[name] = Buffer.from(JSON.stringify(inner)).toString("base64");
  } else json[name] = touched(section, draw).toString("base64");
  return Buffer.from(JSON.stringify(json));
}

const isStricter = (ours, theirs) => STRICTER.some((id) => ours.failing.includes(id) && !theirs.failing.includes(id) && theirs.verdict !== "malformed");

test("reports with a random change", { skip: PYTHON === undefined && "no Python SDK here" }, async () => {
  const rust = spawn(PYTHON, [path.join(VECTORS, "../clients/python/judge.py")], { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, OBSCURA_FIXTURES: path.join(VECTORS, "../fixtures") } });
  const lines = readline.createInterface(rust.stdout)[Symbol.asyncIterator]();
  const draw = draws(20261127);
  const bases = BASES.map((name) => {
    const one = vector("attestation", name, "case.json");
    return [name, one, readFileSync(path.join(VECTORS, "attestation", name, one.report))];
  });
  const { appraise } = await module("index");
  const verdicts = {};
  let stricter = 0;
  for (let i = 0; i < COUNT; i++) {
    const [name, one, base] = bases[i % bases.length];
    const report = mutated(base, draw);
    rust.stdin.write(`${JSON.stringify({ ...one, report: report.toString("base64") })}\n`);
    const { verdict, checks } = await judge(appraise, one, report);
    const ours = { verdict, failing: checks.filter(({ outcome }) => outcome === "FAIL").map(({ id }) => id) };
    const theirs = JSON.parse((await lines.next()).value);
    if (isStricter(ours, theirs)) stricter++;
    else assert.deepEqual(ours, theirs, `change ${i}, of ${name}`);
    verdicts[verdict] = (verdicts[verdict] ?? 0) + 1;
  }
  rust.stdin.end();
  assert.ok(verdicts.rejected > COUNT / 2 && stricter <= COUNT / 100, JSON.stringify({ verdicts, stricter }));
});
