// TDX quotes, checked with npm's @phala/dcap-qvl: nothing of ours on this side.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

import { QuoteVerifier } from "@phala/dcap-qvl";

const FIXTURES = path.join(process.env.OBSCURA_FIXTURES, "attestation");
const SIMULATED_AT = 1_800_000_000;

function parse(json) {
  const collateral = JSON.parse(json);
  for (const name of ["root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"]) {
    collateral[name] = Buffer.from(collateral[name], "hex");
  }
  return collateral;
}

function simulated() {
  const report = JSON.parse(readFileSync(path.join(FIXTURES, "simulated", "report.json"), "utf8"));
  const section = (name) => Buffer.from(report[name], "base64");
  return [section("quote"), parse(section("collateral").toString())];
}

// Ours refuses from 1752919235 on, when a revocation list ends; this verifier waits for the TCB info.
test("the published quote is accepted at its times and at no other", () => {
  const quote = readFileSync(path.join(FIXTURES, "tdx", "v4.quote"));
  const collateral = parse(readFileSync(path.join(FIXTURES, "tdx", "v4.collateral.json"), "utf8"));
  const verifier = QuoteVerifier.newProd();
  for (const now of [1_750_329_147, 1_752_919_234]) {
    assert.equal(verifier.verify(quote, collateral, now).status, "UpToDate");
  }
  for (const now of [1_750_329_146, 1_752_920_164]) {
    assert.throws(() => verifier.verify(quote, collateral, now));
  }
});

test("a simulated quote does not lead to Intel's root", () => {
  assert.throws(() => QuoteVerifier.newProd().verify(...simulated(), SIMULATED_AT));
});

test("a simulated quote has the true format", () => {
  const root = readFileSync(path.join(FIXTURES, "simulated", "root.der"));
  const verified = QuoteVerifier.newWithRootCa(root).verify(...simulated(), SIMULATED_AT);
  assert.equal(verified.status, "UpToDate");
});
