// Edits by the SDK and by the page, against a node whose model takes input images: a small one with random weights, whose
// noise is other noise for every image.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import OpenAI from "openai";

import { readOneBit, rgbaMask } from "./png.mjs";
import { EVIDENCE, PROMPT, assertNoPrompt, module, paths, relay } from "./sdk.mjs";
import { KLEIN as MODEL, KLEIN_WRITER, serveKlein } from "./serve.mjs";

const BROWSER = (process.env.CHROMIUM ? [process.env.CHROMIUM] : ["/usr/bin/chromium", "/usr/bin/google-chrome"]).find(existsSync);
const EDITS = "/v1/confidential/images/edits";
const ASKED = { model: MODEL, prompt: PROMPT, seed: 7, steps: 2 };
// 64 × 64 pixels.
const RED = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAT0lEQVR42u3PQQkAAAgEsEtiMBMbywi+hcEKLFP9WgQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQELgtXzQEt9EQNoQAAAABJRU5ErkJggg==", "base64");
const file = (bytes = RED) => new File([bytes], "input.png", { type: "image/png" });

test("a mask is transparent where it is drawn", async () => {
  const { ConfigurationError, mask } = await module("index");
  const [width, height] = [101, 75];
  const boxes = [[3, 5, 20, 75], [90, 0, 101, 9], [0, 40, 101, 41]];
  const isRedrawn = (x, y) => boxes.some(([left, top, right, bottom]) => x >= left && x < right && y >= top && y < bottom);
  const redrawn = Uint8Array.from({ length: width * height }, (_, at) => (isRedrawn(at % width, Math.floor(at / width)) ? 255 : 0));
  for (const given of [boxes, redrawn, Buffer.from(redrawn)]) {
    const file = await mask(width, height, given);
    assert.deepEqual([file.name, file.type], ["mask.png", "image/png"]);
    const made = readOneBit(Buffer.from(await file.arrayBuffer()));
    assert.deepEqual([made.width, made.height], [width, height]);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) assert.equal(made.isTransparent(x, y), isRedrawn(x, y), `(${x}, ${y})`);
  }
  for (const [sides, given, says] of [
    [[0, 75], boxes, /sides/], [[101, 16_385], boxes, /sides/], [[1.5, 75], boxes, /sides/], [[100, 75], boxes, /no rectangle/],
    [[101, 75], [[5, 5, 5, 9]], /no rectangle/], [[101, 75], [[0.5, 0, 9, 9]], /no rectangle/], [[101, 75], [[1, 2, 3]], /no rectangle/],
    [[101, 75], redrawn.subarray(1), /7574 bytes/],
  ]) await assert.rejects(mask(...sides, given), (error) => error instanceof ConfigurationError && says.test(error.message));
});

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
    // One of the SDK's is the same to a node as one of the usual kind.
    const { mask } = await module("index");
    const left = await mask(64, 64, [[0, 0, 32, 64]]);
    const usual = new File([rgbaMask(64, 64, (x) => x < 32)], "mask.png", { type: "image/png" });
    const masked = [
      (await direct.images.edit({ ...ASKED, image: file(), mask: usual })).data[0].b64_json,
      (await sealed.images.edit({ ...ASKED, image: file(), mask: left })).data[0].b64_json,
      (await o.generate({ ...ASKED, images: [RED], mask: left })).data[0].url.split(",")[1],
    ];
    assert.ok(new Set(masked).size === 1 && masked[0] !== expected.b64_json);
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
