// Edits by the SDK and by the page, against a node whose model takes input images: a small one with random weights, whose
// noise is other noise for every image.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import OpenAI from "openai";

import { EVIDENCE, PROMPT, assertNoPrompt, module, paths, relay } from "./sdk.mjs";
import { KLEIN as MODEL, KLEIN_WRITER, serveKlein } from "./serve.mjs";

const BROWSER = (process.env.CHROMIUM ? [process.env.CHROMIUM] : ["/usr/bin/chromium", "/usr/bin/google-chrome"]).find(existsSync);
const EDITS = "/v1/confidential/images/edits";
const ASKED = { model: MODEL, prompt: PROMPT, seed: 7, steps: 2 };
// 64 × 64 pixels.
const RED = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAT0lEQVR42u3PQQkAAAgEsEtiMBMbywi+hcEKLFP9WgQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQELgtXzQEt9EQNoQAAAABJRU5ErkJggg==", "base64");
const file = (bytes = RED) => new File([bytes], "input.png", { type: "image/png" });

test("edits", { skip: KLEIN_WRITER === undefined && "no model here takes input images" }, async (t) => {
  const node = await serveKlein();
  const wire = await relay(node);
  const { connect } = await module("index");
  const o = await connect(wire.url, { acceptSimulated: true });
  const direct = new OpenAI({ apiKey: "any", baseURL: `${node}/v1`, maxRetries: 0 });
  const sealed = new OpenAI({ apiKey: "any", baseURL: `${wire.url}/v1`, maxRetries: 0, fetch: o.openaiFetch() });
  const { data: [expected] } = await direct.images.edit({ ...ASKED, image: file() });

  await t.test("the sealed image is the one in clear text", async () => {
    assert.deepEqual(await o.info(), { models: [{ id: MODEL, inputImages: 4 }] });
    for (const image of [file(), [file()]]) {
      const { data } = await sealed.images.edit({ ...ASKED, image });
      assert.equal(data[0].b64_json, expected.b64_json);
    }
    const own = await o.generate({ ...ASKED, images: [RED] });
    assert.equal(own.data[0].url.split(",")[1], expected.b64_json);
    // The mask goes with them: what is wrong with it, the node says.
    for (const masked of [() => o.generate({ ...ASKED, images: [RED], mask: RED }), () => sealed.images.edit({ ...ASKED, image: file(), mask: file() })]) await assert.rejects(masked, /no alpha channel/);
    const two = await o.generate({ ...ASKED, images: [RED, new Blob([RED])] });
    assert.notEqual(two.data[0].url.split(",")[1], expected.b64_json);
    const text = await o.generate({ ...ASKED, size: "64x64" });
    assert.notEqual(text.data[0].url.split(",")[1], expected.b64_json);
  });

  await t.test("a stream has an edit's names", async () => {
    const types = [];
    for await (const { type } of o.stream({ ...ASKED, images: [RED], partial_images: 1, progress: true })) types.push(type);
    assert.ok(types.includes("image_edit.progress") && types.includes("image_edit.partial_image"), String(types));
    assert.equal(types.at(-1), "image_edit.completed");
    const events = [];
    for await (const event of await sealed.images.edit({ ...ASKED, image: file(), stream: true, partial_images: 1 })) events.push(event);
    assert.equal(events.at(-1).type, "image_edit.completed");
    assert.equal(events.at(-1).b64_json, expected.b64_json);
  });

  await t.test("what the node refuses is named, sealed", async () => {
    const refused = await o.generate({ ...ASKED, images: Array(5).fill(RED) }).catch((error) => error);
    assert.deepEqual([refused.status, refused.attested], [400, true], String(refused));
    const broken = await sealed.images.edit({ ...ASKED, image: file(RED.subarray(0, 40)) }).catch((error) => error);
    assert.ok(broken instanceof OpenAI.BadRequestError, String(broken));
  });

  await t.test("nothing of it was in clear text on the way", () => {
    assert.ok(paths(wire).includes(EDITS) && paths(wire).includes(EVIDENCE));
    for (const { head, body } of wire.sent) {
      assertNoPrompt(head + body);
      assert.ok(!body.includes(RED.toString("base64").slice(-60, -4)));
    }
  });

  await t.test("the page", { skip: BROWSER === undefined && "there is no browser here" }, async () => {
    const { chromium } = await import("playwright-core");
    const browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox", "--disable-gpu"] });
    try {
      const page = await browser.newPage();
      await page.goto(`${pathToFileURL(path.join(process.env.OBSCURA_SDK, "page", "obscura.html")).href}#node=${node}&demo`);
      await page.waitForSelector('body[data-state="demo"]');
      assert.equal(await page.inputValue("#model"), MODEL);
      await page.setInputFiles("#file", { name: "input.png", mimeType: "image/png", buffer: RED });
      await page.fill("#prompt", PROMPT);
      await page.selectOption("#steps", "2");
      await page.fill("#seed", "7");
      await page.keyboard.press("Enter");
      await page.waitForSelector("figure img.final", { timeout: 60_000 });
      assert.match(await page.innerText("#receipt"), /Seed 7 · receipt checked/);
      // What was made may be changed again.
      await page.click("#edit");
      assert.equal(await page.locator("#given li").count(), 1);
    } finally {
      await browser.close();
    }
  });
});
