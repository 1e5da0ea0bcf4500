// sdk/page/obscura.html: that it is what is built, and what it does in a real browser, from disk and from loopback.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { EVIDENCE, PROMPT, SEALED, assertNoPrompt } from "./sdk.mjs";
import { serve, standBeside } from "./serve.mjs";

const PAGE = path.join(process.env.OBSCURA_SDK, "page", "obscura.html");
const html = readFileSync(PAGE, "utf8");
const BROWSER = (process.env.CHROMIUM ? [process.env.CHROMIUM] : ["/usr/bin/chromium", "/usr/bin/google-chrome"]).find(existsSync);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const node = BROWSER && (await serve({ plaintext: false }));
const proxy = BROWSER && (await standBeside(node));

test("a rebuild gives the same bytes", () => {
  execFileSync(process.execPath, [path.join(path.dirname(PAGE), "build.mjs"), "--check"]);
  assert.ok(Buffer.byteLength(html) <= 102_000, "a page that fits in a mail");
});

test("its policy lets nothing in but itself", () => {
  const policy = /Content-Security-Policy" content="([^"]+)"/.exec(html)[1];
  const digest = (tag) => createHash("sha256").update(new RegExp(`<${tag}>([^]*?)</${tag}>`).exec(html)[1]).digest("base64");
  assert.ok(policy.includes(`script-src 'sha256-${digest("script")}'`) && policy.includes(`style-src 'sha256-${digest("style")}'`));
  for (const rule of ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"]) assert.ok(policy.includes(rule));
  assert.doesNotMatch(policy, /unsafe|\*/);
  assert.equal(html.match(/<script/g).length, 1);
  assert.doesNotMatch(html.replace(/<script>[^]*?<\/script>/, ""), / (style|on\w+)=|src=/);
});

test("in Chromium", { skip: BROWSER === undefined && "there is no browser here" }, async (t) => {
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS });
  const served = createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end(html)).listen(0, "127.0.0.1");
  t.after(async () => {
    await browser.close();
    served.closeAllConnections();
    served.close();
  });
  await once(served, "listening");

  /** A page, with all that it sends and whatever it complains of. */
  async function open(from, hash) {
    const page = await browser.newPage();
    const [sent, complaints] = [[], []];
    page.on("request", (request) => /^https?:/.test(request.url()) && request.url().startsWith(node) && sent.push({ path: new URL(request.url()).pathname, body: request.postData() ?? "" }));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(`${from}#${hash}`);
    return { page, sent, complaints };
  }
  const state = (page, wanted) => page.waitForSelector(`body[data-state="${wanted}"]`, { timeout: 30_000 });
  // From a proxy it stands under that one's header too, and speaks to the node itself.
  const places = { proxy: () => `${proxy}/page`, disk: () => pathToFileURL(PAGE).href, loopback: () => `http://127.0.0.1:${served.address().port}/` };

  for (const [place, from] of Object.entries(places)) {
    await t.test(`from ${place}: a picture that sharpens, and what was sent of it`, async () => {
      const { page, sent, complaints } = await open(from(), `node=${node}&demo`);
      await state(page, "demo");
      await page.fill("#prompt", PROMPT);
      await page.selectOption("#size", "256x256");
      await page.selectOption("#steps", "8");
      await page.keyboard.press("Enter");
      await page.waitForSelector("figure img.preview", { timeout: 60_000 });
      await page.waitForSelector("#caption:not([hidden])", { timeout: 60_000 });
      await page.waitForFunction(() => document.querySelectorAll("figure img").length === 1 && document.querySelector("figure img").naturalWidth === 256);
      assert.equal(await page.locator("#strip button").count(), 1);
      assert.match(await page.locator("#receipt").innerText(), /Seed \d+ · receipt checked/);
      const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
      assert.match(download.suggestedFilename(), /^obscura-\d+\.png$/);
      assert.deepEqual(sent.map(({ path }) => path), [EVIDENCE, "/info", SEALED]);
      sent.forEach(({ body }) => assertNoPrompt(body));
      assert.deepEqual(complaints, []);
      await page.close();
    });
  }

  await t.test("a node that fails: red, in plain words, and nothing is sent to it", async () => {
    const { page, sent } = await open(places.disk(), `node=${node}`);
    await state(page, "refused");
    assert.match(await page.locator("#refused").innerText(), /not trusted[^]*Nothing was sent[^]*No hardware[^]*configured in a way/);
    assert.ok(await page.locator("#send").isDisabled());
    await page.fill("#prompt", PROMPT);
    await page.keyboard.press("Enter");
    await page.waitForTimeout(300);
    assert.deepEqual(sent.map(({ path, body }) => [path, body]), [[EVIDENCE, ""]]);
    await page.close();
  });

  await t.test("a link does not make a stranger's demonstration acceptable", async () => {
    for (const [named, accepted] of [["http://127.0.0.1:9", true], ["http://localhost:9/", true], ["https://node.example", false], ["http://127.0.0.1.example", false], ["http://localhost@node.example", false]]) {
      const page = await browser.newPage();
      await page.route(/^https?:/, (route) => route.abort());
      await page.goto(`${places.disk()}#node=${named}&demo`);
      assert.equal(await page.isChecked("#simulated"), accepted, named);
      await page.close();
    }
  });

  await t.test("the verdict does not wait for what a relay holds back", async () => {
    const page = await browser.newPage();
    await page.route("**/info", () => {});
    await page.goto(`${places.disk()}#node=${node}&demo`);
    await page.waitForSelector('body[data-state="demo"]', { timeout: 20_000 });
    assert.equal(await page.inputValue("#model"), "obscura/demo");
    assert.ok(await page.locator("#send").isEnabled());
    await page.close();
  });

  await t.test("another address takes the verdict away", async () => {
    const { page, sent } = await open(places.disk(), `node=${node}&demo`);
    await state(page, "demo");
    await page.click("#node-details summary");
    await page.fill("#url", "http://127.0.0.1:9");
    await state(page, "idle");
    assert.ok(await page.locator("#send").isDisabled());
    await page.click("#connect");
    await page.waitForFunction(() => /cannot be reached/.test(document.querySelector("#summary").textContent));
    assert.deepEqual(sent.map(({ path }) => path), [EVIDENCE, "/info"]);
    await page.close();
  });

  await t.test("input images: chosen, pasted, dropped, removed, and sealed", async () => {
    const { page, sent } = await open("about:blank", "");
    await page.route("**/info", (route) => route.fulfill({ headers: { "access-control-allow-origin": "*" }, json: { models: [{ id: "told/name", input_images: 0 }, { id: "told/edits", input_images: 3 }, { id: "told/none", input_images: 0 }] } }));
    await page.goto(`${places.disk()}#node=${node}&demo`);
    await state(page, "demo");
    assert.equal(await page.inputValue("#model"), "told/name");
    const png = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
    const file = (name) => ({ name, mimeType: "image/png", buffer: png });
    const given = () => page.locator("#given li").count();
    await page.setInputFiles("#file", [file("a.png"), { ...file("b.gif"), mimeType: "image/gif" }]);
    assert.equal(await given(), 1);
    for (const [type, field] of [["paste", "clipboardData"], ["drop", "dataTransfer"]]) {
      await page.evaluate(([type, field, base64]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], "c.png", { type: "image/png" }));
        const init = { bubbles: true, cancelable: true, [field]: data };
        document.querySelector("#prompt").dispatchEvent(type === "paste" ? new ClipboardEvent(type, init) : new DragEvent(type, init));
      }, [type, field, png.toString("base64")]);
    }
    assert.equal(await given(), 3);
    await page.setInputFiles("#file", file("d.png"));
    assert.match(await page.innerText("#status"), /3 images at most/);
    await page.waitForFunction(() => [...document.querySelectorAll("#given img")].every((image) => image.naturalWidth === 1));
    await page.click("#given li:nth-child(2) button");
    assert.equal(await given(), 2);
    await page.click("#node-details summary");
    // The page's own suggestion gives way to the first model that takes images; what a user names does not.
    for (const [named, asked] of [["told/name", "told/edits"], ["obscura/demo", "obscura/demo"]]) {
      await page.fill("#model", named);
      await page.fill("#prompt", PROMPT);
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => document.querySelector("#status").className === "error");
      const { path, body } = sent.at(-1);
      assert.equal(path, "/v1/confidential/images/edits");
      assert.equal(JSON.parse(body).model_name, asked);
      assertNoPrompt(body);
      assert.ok(!body.includes(png.toString("base64").slice(0, 40)));
    }
    // One that takes none is not given any.
    await page.fill("#model", "told/none");
    await page.press("#model", "Tab");
    assert.deepEqual([await given(), await page.isVisible("#inputs")], [0, false]);
    await page.close();
  });

  await t.test("a first visit: an address suffices, and each picture of several is shown by itself", async () => {
    const { page } = await open(places.disk(), "");
    await page.setViewportSize({ width: 390, height: 844 });
    await page.click("#begin");
    await page.keyboard.type(node);
    await page.check("#simulated");
    await page.click("#connect");
    await state(page, "demo");
    assert.equal(await page.inputValue("#model"), "obscura/demo");
    assert.ok(await page.isHidden("#begin"));
    await page.click("#pill");
    assert.doesNotMatch(page.url(), /verdict/, "an address that names a node goes on naming it");
    await page.click("#node-details summary");
    await page.fill("#model", "");
    await page.selectOption("#size", "256x256");
    await page.selectOption("#count", "2");
    await page.fill("#prompt", PROMPT);
    await page.press("#prompt", "Enter");
    await page.waitForSelector("#caption:not([hidden])", { timeout: 60_000 });
    const current = () => page.locator('#strip button[aria-current="true"]').count();
    assert.equal(await current(), 2);
    for (const wanted of [1, 2]) {
      await page.click("#strip button");
      assert.deepEqual([await page.locator("#easel figure").count(), await current()], [wanted, wanted]);
    }
    await page.close();
  });

  await t.test("a refusal is shown, Escape stops, and the keyboard suffices", async () => {
    const { page } = await open(places.disk(), `node=${node}&demo&model=none`);
    await state(page, "demo");
    await page.keyboard.type(PROMPT);
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => /not served/.test(document.querySelector("#status").textContent));
    await page.click("#node-details summary");
    await page.fill("#model", "obscura/demo");
    await page.selectOption("#size", "512x512");
    await page.selectOption("#steps", "16");
    await page.focus("#prompt");
    await page.keyboard.press("Enter");
    await page.waitForSelector("body.busy");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.querySelector("#status").textContent === "Stopped.");
    for (const label of await page.locator("input, textarea, select").all()) assert.ok(await label.evaluate((one) => one.labels.length > 0));
    await page.close();
  });

  // WebCrypto is another here: BoringSSL's, with an X25519 of its own, where Node.js 20 takes noble's.
  await t.test("every vector, by this browser's cryptography", async () => {
    const sdk = path.join(process.env.OBSCURA_SDK, "typescript");
    const { build } = createRequire(path.join(sdk, "package.json"))("esbuild");
    const contents = ["verify", "seal", "bytes", "x509"].map((name) => `export * from "./src/${name}.js";`).join("\n");
    const { outputFiles } = await build({ stdin: { contents, resolveDir: sdk }, bundle: true, write: false, format: "iife", globalName: "sdk" });
    const page = await browser.newPage();
    await page.goto(pathToFileURL(path.join(sdk, "package.json")).href);
    await page.addScriptTag({ content: outputFiles[0].text });
    const vectors = path.join(process.env.OBSCURA_FIXTURES, "../vectors");
    const read = (...names) => JSON.parse(readFileSync(path.join(vectors, ...names)));
    const roots = read("roots", "snp-test.json");
    for (const name of readdirSync(path.join(vectors, "attestation"))) {
      const one = read("attestation", name, "case.json");
      const report = readFileSync(path.join(vectors, "attestation", name, one.report)).toString("base64");
      const found = await page.evaluate(async ([one, report, { amd }]) => {
        const { appraise, certificate, pemChain, unhex } = window.sdk;
        const bytes = Uint8Array.from(atob(report), (character) => character.charCodeAt(0));
        const { verdict, checks } = await appraise(bytes, { nonce: one.nonce === null ? new Uint8Array(32) : unhex(one.nonce), now: one.now }, {
          policy: one.policy === "production" ? undefined : one.policy,
          acceptSimulated: one.simulated !== null,
          simulatedRules: typeof one.simulated === "object" ? one.simulated ?? undefined : undefined,
          roots: one.roots === "built in" ? {} : { amd: amd.map(({ generation, ark, ask }) => ({ generation, ark: certificate(pemChain(ark)[0]), ask: certificate(pemChain(ask)[0]) })) },
        });
        return { verdict, failing: checks.filter(({ outcome }) => outcome === "FAIL").map(({ id }) => id) };
      }, [one, report, roots]);
      assert.deepEqual(found, { verdict: one.expect.verdict, failing: one.expect.failing }, name);
    }
    const wrong = await page.evaluate(async ([seals, opens]) => {
      const { sealExact, unhex, utf8 } = window.sdk;
      const exchange = ({ node_public, client_secret, salt, nonce, body }) =>
        sealExact(unhex(node_public), utf8(body), { secret: unhex(client_secret), salt: unhex(salt), nonce: unhex(nonce) });
      const wrong = [];
      for (const { name, expect, envelope, ...given } of seals.cases) {
        const found = await exchange(given).then(([found]) => JSON.stringify(found) === JSON.stringify(envelope) ? "accept" : "another", () => "refuse");
        if (found !== expect) wrong.push([name, found]);
      }
      const [, opener] = await exchange(opens.exchange);
      const { signing_key, keyset_digest, model_manifest } = opens.attested;
      const attested = { signingKey: unhex(signing_key), keysetDigest: unhex(keyset_digest), modelManifest: unhex(model_manifest) };
      for (const { name, answer, expect } of opens.cases) {
        const found = await opener.open(answer, attested).then(() => "accept", (error) => error.fault);
        if (found !== expect) wrong.push([name, found]);
      }
      return wrong;
    }, [read("wire", "seal.json"), read("wire", "open.json")]);
    assert.deepEqual(wrong, []);
  });
});
