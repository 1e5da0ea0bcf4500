// How long a browser takes to judge evidence: each report again and again, in a page of its own, by the TypeScript SDK.
//
//   ./test                                       installs the SDK and its tests below the build directory
//   node bench/browser.mjs [target/clients]      Chromium; CHROMIUM names another one
//
// The first is a page's first verdict, with nothing compiled; the median is of those after it.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const REPO = path.join(import.meta.dirname, "..");
const CLIENTS = path.resolve(process.argv[2] ?? path.join(REPO, "target/clients"));
const VECTORS = path.join(REPO, "tests/vectors/attestation");
const CASES = ["simulated", "tdx-v4-first", "tdx-v5-td15ex-first", "snp-published", "gpu-nonce"];
const RUNS = 50;

const sdk = path.join(CLIENTS, "sdk/typescript");
const { chromium } = createRequire(path.join(CLIENTS, "typescript/package.json"))("playwright-core");
const { buildSync } = createRequire(path.join(sdk, "package.json"))("esbuild");
const contents = 'export { appraise } from "./src/verify.js"; export { unhex } from "./src/bytes.js";';
const { outputFiles } = buildSync({ stdin: { contents, resolveDir: sdk }, bundle: true, minify: true, write: false, format: "iife", globalName: "sdk" });
const executablePath = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/google-chrome"].find((file) => file && existsSync(file));
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });

console.log(`Chromium ${browser.version()}, ${os.cpus()[0].model}, ${os.cpus().length} cores, load ${os.loadavg()[0].toFixed(1)}`);
console.log("| evidence | report | first | median | slowest of 50 |\n|---|---|---|---|---|");
for (const name of CASES) {
  const one = JSON.parse(readFileSync(path.join(VECTORS, name, "case.json")));
  const report = readFileSync(path.join(VECTORS, name, one.report));
  const page = await browser.newPage();
  // WebCrypto is for secure contexts: a file is one.
  await page.goto(pathToFileURL(path.join(sdk, "package.json")).href);
  await page.addScriptTag({ content: outputFiles[0].text });
  const times = await page.evaluate(async ([one, report, runs]) => {
    const bytes = Uint8Array.from(atob(report), (character) => character.charCodeAt(0));
    const trust = { policy: one.policy === "production" ? undefined : one.policy, acceptSimulated: one.simulated !== null };
    const times = [];
    for (let run = 0; run <= runs; run++) {
      const start = performance.now();
      const { checks } = await window.sdk.appraise(bytes, { nonce: one.nonce === null ? new Uint8Array(32) : window.sdk.unhex(one.nonce), now: one.now }, trust);
      times.push(performance.now() - start);
      if (checks.length < 20) throw new Error("it was not judged");
    }
    return times;
  }, [one, report.toString("base64"), RUNS]);
  const [first, ...rest] = times;
  rest.sort((a, b) => a - b);
  const ms = (time) => `${time.toFixed(1)} ms`;
  console.log(`| ${name} | ${report.length} B | ${ms(first)} | ${ms(rest[RUNS >> 1])} | ${ms(rest.at(-1))} |`);
  await page.close();
}
await browser.close();
