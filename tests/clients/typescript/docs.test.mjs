// /docs: that what is vendored is what was published, and what the page does in a real browser, on a desk and on a phone.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

import { serve } from "./serve.mjs";

const BROWSER = (process.env.CHROMIUM ? [process.env.CHROMIUM] : ["/usr/bin/chromium", "/usr/bin/google-chrome"]).find(existsSync);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const SOURCES = path.join(process.env.OBSCURA_FIXTURES, "../../crates/node/src/routes/pages/swagger-ui");
const vendored = JSON.parse(readFileSync(path.join(SOURCES, "vendored.json"), "utf8"));

const node = await serve({ plaintext: true });

test("what is served is what was published", async () => {
  const answer = await fetch(`${node}/docs`);
  const policy = answer.headers.get("content-security-policy");
  assert.doesNotMatch(policy, /unsafe|\*|https?:/);
  const html = await answer.text();
  assert.doesNotMatch(html, /https?:|<script>|<style|style=| on\w+=/);
  const asked = [...html.matchAll(/(?:src|href)="(docs\/[^"]+)"/g)].map((match) => match[1]);
  assert.equal(asked.length, 4);
  const served = {};
  for (const name of asked) {
    const file = await fetch(`${node}/${name}`);
    assert.equal(file.status, 200, name);
    served[name] = createHash("sha256").update(new Uint8Array(await file.arrayBuffer())).digest("hex");
  }
  const { version, files } = vendored;
  assert.equal(served[`docs/swagger-ui-${version}.js`], files["swagger-ui-bundle.js"]);
  assert.equal(served[`docs/swagger-ui-${version}.css`], files["swagger-ui.css"]);
  for (const name of ["docs/", "docs/nothing", "docs/..%2Fplayground.html"]) assert.equal((await fetch(`${node}/${name}`)).status, 404, name);
});

test("in Chromium", { skip: BROWSER === undefined && "there is no browser here" }, async (t) => {
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS });
  t.after(() => browser.close());
  for (const width of [1280, 390]) {
    const page = await browser.newPage({ viewport: { width, height: 900 } });
    const complaints = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => /^(?!blob:|data:)/.test(request.url()) && !request.url().startsWith(node) && complaints.push(request.url()));
    await page.goto(`${node}/docs`);
    const block = page.locator(".opblock", { has: page.locator('[data-path="/v1/images/generations"]') });
    await block.locator(".opblock-summary-control").click();
    // The example of the document, and the answer of this very node.
    const example = JSON.parse(await block.locator("textarea").inputValue());
    assert.equal(example.model, "obscura/demo");
    await block.locator("textarea").fill(JSON.stringify({ ...example, size: "64x64", response_format: "b64_json" }));
    await block.locator(".execute").click();
    await block.locator(".live-responses-table .response-col_status").getByText("200").waitFor();
    await page.locator(".opblock", { has: page.locator('[data-path="/info"]') }).locator(".opblock-summary-control").click();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${wide} pixels of ${width}`);
    assert.deepEqual(complaints, [], `at ${width}`);
    await page.close();
  }
});
