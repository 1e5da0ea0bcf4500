// Masks that are painted on the page: what is sent of them, pixel by pixel, and what a node makes of it.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import OpenAI from "openai";

import { chunk, png, readOneBit, rgbaMask } from "./png.mjs";
import { PROMPT, assertNoPrompt } from "./sdk.mjs";
import { KLEIN, KLEIN_WRITER, serveKlein } from "./serve.mjs";

const BROWSER = (process.env.CHROMIUM ? [process.env.CHROMIUM] : ["/usr/bin/chromium", "/usr/bin/google-chrome"]).find(existsSync);
const PAGE = pathToFileURL(path.join(process.env.OBSCURA_SDK, "page", "obscura.html")).href;
const EDITS = "/v1/confidential/images/edits";
const [WIDTH, HEIGHT] = [192, 64];
/** The thinnest brush. */
const RADIUS = 12;

const image = (width = WIDTH, height = HEIGHT) => png(width, height, (x, y) => [200, 30 + (x & 31), 90 + (y & 31), 255]);
const skip = BROWSER === undefined ? "there is no browser here" : KLEIN_WRITER === undefined && "no model here takes input images";

test("in Chromium", { skip }, async (t) => {
  const node = await serveKlein();
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox", "--disable-gpu"] });
  t.after(() => browser.close());

  /** A page with the file as its first image, in the editor; what is sealed there, and what leaves it. */
  async function open(file, { mimeType = "image/png", isEditing = true, ...how } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...how });
    const page = await context.newPage();
    const [sealed, sent, complaints] = [[], [], []];
    await page.exposeFunction("beforeSealing", (text) => sealed.push(text));
    await page.addInitScript(() => {
      const { encrypt } = SubtleCrypto.prototype;
      SubtleCrypto.prototype.encrypt = function (algorithm, key, data) {
        window.beforeSealing(new TextDecoder().decode(data));
        return encrypt.call(this, algorithm, key, data);
      };
    });
    page.on("request", (request) => request.method() === "POST" && sent.push({ path: new URL(request.url()).pathname, body: request.postData() }));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(`${PAGE}#node=${node}&demo`);
    await page.waitForSelector('body[data-state="demo"]');
    await choose(page, file, mimeType);
    await page.fill("#prompt", PROMPT);
    await page.selectOption("#steps", "2");
    await page.fill("#seed", "7");
    if (isEditing) await edit(page);
    return { page, sealed, sent, complaints, request: () => JSON.parse(sealed.at(-1)) };
  }
  const choose = (page, buffer, mimeType = "image/png", to = "#file") => page.setInputFiles(to, { name: "x", mimeType, buffer });
  const share = (page, words) => page.waitForFunction((words) => document.querySelector("#share").textContent === words, words);
  async function edit(page) {
    await page.click("#paint");
    await page.waitForSelector("#masking:not([hidden])");
    await page.evaluate((radius) => (document.querySelector("#radius").value = radius), RADIUS);
  }

  /** Presses at a point of the picture, in parts of its sides, and drags; in whole pixels of the screen. What it covers, in pixels of the picture. */
  async function stroke(page, points, [width, height] = [WIDTH, HEIGHT], scale = 1) {
    const { x, y, ...board } = await page.locator("#mask").boundingBox();
    const onScreen = points.map(([across, down]) => [Math.round(x + across * board.width), Math.round(y + down * board.height)]);
    await page.mouse.move(...onScreen[0]);
    await page.mouse.down();
    for (const point of onScreen.slice(1)) await page.mouse.move(...point);
    await page.mouse.up();
    const [from, to] = [onScreen[0], onScreen.at(-1)].map(([px, py]) => [((px - x) * width) / board.width, ((py - y) * height) / board.height]);
    assert.equal(from[1], to[1], "a level stroke");
    return (px, py) => {
      const beside = Math.max(from[0] - px - 0.5, 0, px + 0.5 - to[0]);
      return Math.hypot(beside, py + 0.5 - from[1]) <= RADIUS * scale;
    };
  }
  const maskSent = ({ mask }) => readOneBit(Buffer.from(mask.replace(/^data:image\/png;base64,/, ""), "base64"));
  const count = ({ width, height, isTransparent }) => {
    let pixels = 0;
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) pixels += isTransparent(x, y);
    return pixels;
  };
  async function drawn(page) {
    await page.focus("#prompt");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#caption:not([hidden])", { timeout: 60_000 });
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
    return readFileSync(await download.path());
  }
  /** What a request would be, which goes nowhere. */
  async function asked({ page, sealed, request }) {
    await page.route(`**${EDITS}`, (route) => route.abort());
    const before = sealed.length;
    await page.focus("#prompt");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#status.error");
    assert.equal(sealed.length, before + 1);
    return request();
  }

  await t.test("a stroke is the mask that is sealed, and what is kept is kept", async () => {
    const file = image();
    const { page, sent, complaints, request } = await open(file);
    await page.selectOption("#size", "256x256");
    const covers = await stroke(page, [[0.05, 0.5], [0.1, 0.5], [0.15, 0.5]]);
    await page.waitForSelector("#size:disabled");
    assert.equal(await page.inputValue("#size"), "auto", "the first image's size is the only one");
    const first = await drawn(page);
    const { mask, images, size } = request();
    assert.deepEqual([images, size], [[`data:image/png;base64,${file.toString("base64")}`], "auto"]);
    const { width, height, isTransparent } = maskSent({ mask });
    assert.deepEqual([width, height], [WIDTH, HEIGHT]);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) assert.equal(isTransparent(x, y), covers(x, y), `(${x}, ${y})`);
    // It is what OpenAI's client gets in clear text for a mask of the usual kind.
    const direct = new OpenAI({ apiKey: "any", baseURL: `${node}/v1`, maxRetries: 0 });
    const upload = (bytes) => new File([bytes], "x.png", { type: "image/png" });
    const { data: [expected] } = await direct.images.edit({ model: KLEIN, prompt: PROMPT, seed: 7, steps: 2, image: upload(file), mask: upload(rgbaMask(WIDTH, HEIGHT, covers)) });
    assert.equal(first.toString("base64"), expected.b64_json);
    // Noise is other noise where it is drawn, and hardly elsewhere: the autoencoder's own view is of the whole image.
    await page.fill("#seed", "8");
    const second = await drawn(page);
    const [redrawn, kept] = await page.evaluate(async (files) => {
      const values = await Promise.all(files.map(async (base64) => {
        const image = Object.assign(new Image(), { src: `data:image/png;base64,${base64}` });
        await image.decode();
        const context = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height }).getContext("2d");
        context.drawImage(image, 0, 0);
        return [[0, 48], [80, image.width - 80]].map(([x, width]) => context.getImageData(x, 0, width, image.height).data);
      }));
      return [0, 1].map((part) => values[0][part].reduce((sum, value, at) => sum + Math.abs(value - values[1][part][at]), 0) / values[0][part].length);
    }, [first, second].map((bytes) => bytes.toString("base64")));
    assert.ok(redrawn > 2 * kept, `${redrawn} and ${kept}`);
    assert.deepEqual(sent.map(({ path }) => path), [EDITS, EDITS]);
    for (const { body } of sent) {
      assertNoPrompt(body);
      for (const text of [mask, ...images]) assert.ok(!body.includes(text.slice(40, 100)), "the files are sealed");
    }
    assert.deepEqual(complaints, []);
    await page.context().close();
  });

  await t.test("erase, undo, invert, clear, and the keyboard", async () => {
    const opened = await open(image());
    const { page } = opened;
    const all = WIDTH * HEIGHT;
    const painted = async () => count(maskSent(await asked(opened)));
    await stroke(page, [[0.5, 0.5], [0.6, 0.5]]);
    const covered = await painted();
    await edit(page);
    await page.click("#invert");
    assert.equal(await painted(), all - covered);
    await edit(page);
    await page.click("#eraser");
    assert.equal(await page.getAttribute("#eraser", "aria-pressed"), "true");
    await stroke(page, [[0.1, 0.5], [0.2, 0.5]]);
    const erased = await painted();
    assert.ok(erased < all - covered, `${erased}`);
    await edit(page);
    await page.click("#undo");
    assert.equal(await painted(), all - covered);
    await edit(page);
    await page.focus("#mask");
    await page.keyboard.press("Control+z");
    assert.equal(await painted(), covered, "what was painted before");
    await edit(page);
    await page.click("#clear");
    await share(page, "The rest is kept.");
    assert.equal((await asked(opened)).mask, undefined, "an empty mask is none");
    // By keys alone: to the left without a trace, a dab, and on with Shift.
    await edit(page);
    assert.equal(await page.evaluate(() => document.activeElement.id), "mask");
    const keys = async (...names) => {
      for (const name of names) await page.keyboard.press(name);
    };
    await keys("ArrowLeft", "ArrowLeft", "Space");
    const dab = await painted();
    const disc = Math.PI * RADIUS ** 2;
    assert.ok(Math.abs(dab - disc) < 0.05 * disc, `${dab}`);
    await edit(page);
    await keys("ArrowLeft", "ArrowLeft", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Escape");
    assert.ok(await page.isHidden("#masking"), "Escape ends it");
    assert.equal(await page.evaluate(() => document.activeElement.id), "paint");
    assert.ok((await painted()) > dab);
    // A key that is held is one step.
    const before = await painted();
    await edit(page);
    for (const key of ["Shift", "ArrowRight", "ArrowRight", "ArrowRight"]) await page.keyboard.down(key);
    for (const key of ["ArrowRight", "Shift"]) await page.keyboard.up(key);
    await page.keyboard.press("Control+z");
    assert.equal(await painted(), before);
    await page.context().close();
  });

  await t.test("a finger and a pen paint, and a second finger takes the stroke back", async () => {
    const opened = await open(image(), { viewport: { width: 390, height: 844 }, hasTouch: true });
    const { page } = opened;
    const { x, y, width, height } = await page.locator("#mask").boundingBox();
    await page.touchscreen.tap(x + width / 4, y + height / 2);
    const devtools = await page.context().newCDPSession(page);
    const point = (across, id) => ({ x: x + across * width, y: y + height / 2, id });
    const touch = (type, ...touchPoints) => devtools.send("Input.dispatchTouchEvent", { type, touchPoints });
    await share(page, "4 % so far.");
    await touch("touchStart", point(0.5, 1));
    await touch("touchMove", point(0.6, 1));
    await touch("touchStart", point(0.6, 1), point(0.9, 2));
    await touch("touchEnd");
    await share(page, "4 % so far.");
    for (const type of ["mousePressed", "mouseReleased"]) {
      await devtools.send("Input.dispatchMouseEvent", { type, x: x + 0.75 * width, y: y + height / 2, button: "left", clickCount: 1, pointerType: "pen" });
    }
    await share(page, "8 % so far.");
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390, "nothing is wider than a phone");
    await page.context().close();
  });

  await t.test("a file of a mask, and what is wrong with one", async () => {
    const opened = await open(image());
    const { page } = opened;
    const load = (file) => choose(page, file, "image/png", "#mask-file");
    const isRedrawn = (x, y) => x >= 100 && y < 40;
    await load(rgbaMask(WIDTH, HEIGHT, isRedrawn));
    await share(page, `${Math.ceil((100 * 92 * 40) / (WIDTH * HEIGHT))} % so far.`);
    for (const [file, says] of [[rgbaMask(64, 64, isRedrawn), /has 64 × 64 pixels/], [rgbaMask(WIDTH, HEIGHT, () => false), /transparent nowhere/], [Buffer.from("x"), /cannot be decoded/]]) {
      await load(file);
      await page.waitForFunction((says) => new RegExp(says).test(document.querySelector("#status.error")?.textContent), says.source);
    }
    const { isTransparent } = maskSent(await asked(opened));
    for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++) assert.equal(isTransparent(x, y), isRedrawn(x, y), `(${x}, ${y})`);
    await page.context().close();
  });

  await t.test("a large picture's mask is as large", async () => {
    const [width, height] = [2400, 1600];
    const opened = await open(png(width, height, () => [90, 120, 60, 255]));
    const cells = await opened.page.evaluate(() => document.querySelector("#mask").width);
    assert.ok(cells < width, "painted as finely as a model reads it");
    const covers = await stroke(opened.page, [[0.3, 0.5], [0.6, 0.5]], [width, height], width / cells);
    const mask = maskSent(await asked(opened));
    assert.deepEqual([mask.width, mask.height], [width, height]);
    // But for the edge, on which a cell lies.
    for (let y = 0; y < height; y += 5) {
      for (let x = 0; x < width; x += 7) {
        const around = [-3, 3].flatMap((dx) => [-3, 3].map((dy) => covers(x + dx, y + dy)));
        if (around.every((value) => value === around[0])) assert.equal(mask.isTransparent(x, y), around[0], `(${x}, ${y})`);
      }
    }
    await opened.page.context().close();
  });

  await t.test("which way up a picture is", async () => {
    // Orientation 6 of EXIF: to be turned right by a quarter.
    const tiff = Buffer.from("4d4d002a00000008000101120003000000010006000000000000", "hex");
    const upright = image(128, 64);
    const end = upright.length - 12;
    const { page } = await open(Buffer.concat([upright.subarray(0, end), chunk("eXIf", tiff), upright.subarray(end)]), { isEditing: false });
    await page.click("#paint");
    await page.waitForFunction(() => /turned/.test(document.querySelector("#status.error")?.textContent));
    assert.ok(await page.isHidden("#masking"), "browsers differ about it in a PNG");
    const jpeg = Buffer.from((await page.evaluate(() => Object.assign(document.createElement("canvas"), { width: 128, height: 64 }).toDataURL("image/jpeg"))).split(",")[1], "base64");
    const exif = Buffer.concat([Buffer.from("Exif\0\0", "latin1"), tiff]);
    const turned = Buffer.concat([jpeg.subarray(0, 2), Buffer.from([0xff, 0xe1, 0, exif.length + 2]), exif, jpeg.subarray(2)]);
    const opened = await open(turned, { mimeType: "image/jpeg" });
    await stroke(opened.page, [[0.5, 0.25], [0.6, 0.25]], [64, 128]);
    const mask = maskSent(await asked(opened));
    assert.deepEqual([mask.width, mask.height], [64, 128]);
    assert.ok(mask.isTransparent(32, 32) && !mask.isTransparent(32, 96));
    // The node takes it for as large as it says.
    await opened.page.unroute(`**${EDITS}`);
    await drawn(opened.page);
    await page.context().close();
    await opened.page.context().close();
  });

  await t.test("a mask goes with its picture", async () => {
    const opened = await open(image());
    const { page } = opened;
    const covers = async () => (await asked(opened)).mask !== undefined;
    await stroke(page, [[0.2, 0.5], [0.3, 0.5]]);
    // Another beside it is nothing to the mask; its own removal is.
    await choose(page, image(64, 64));
    await page.click("#given li:nth-child(2) button");
    assert.ok(await page.isVisible("#masking"));
    assert.ok(await covers());
    await choose(page, image(64, 64));
    await edit(page);
    await page.click("#given li:nth-child(1) button");
    assert.ok(await page.isHidden("#masking"));
    assert.equal(await page.innerText("#paint"), "Paint what may change");
    assert.ok(await page.isEnabled("#size"));
    assert.ok(!(await covers()));
    for (const one of await page.locator("#masking :is(input, button)").all()) assert.ok(await one.evaluate((one) => one.labels?.length > 0 || one.textContent !== ""));
    await page.context().close();
  });
});
