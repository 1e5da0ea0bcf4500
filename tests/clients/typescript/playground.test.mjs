// The page at `/`: what it does in a real browser, where clear text is on and where it is off.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { serve } from "./serve.mjs";

const BROWSER = (process.env.CHROMIUM ? [process.env.CHROMIUM] : ["/usr/bin/chromium", "/usr/bin/google-chrome"]).find(existsSync);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const clear = BROWSER && (await serve({ more: ["--set", "max_total_pixels=262144"] }));
const sealed = BROWSER && (await serve({ plaintext: false }));

test("in Chromium", { skip: BROWSER === undefined && "there is no browser here" }, async (t) => {
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS });
  t.after(() => browser.close());
  const open = async (url) => {
    const page = await browser.newPage({ acceptDownloads: true });
    const complaints = [];
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(url);
    return { page, complaints };
  };
  const says = (page, words) => page.waitForFunction((words) => document.getElementById("status").textContent.startsWith(words), words, { timeout: 60_000 });

  await t.test("draws by the keyboard, and the image can be kept", async () => {
    const { page, complaints } = await open(clear);
    await page.waitForSelector("#clear:not([hidden])");
    // No seed is rounded: 2^63 + 1 is no number of JavaScript's.
    await page.fill("#seed", "9223372036854775809");
    await page.selectOption("#size", "256x256");
    assert.equal(await page.locator("#n option:not([disabled])").count(), 4, "4 × 256² are 262144 pixels");
    await page.selectOption("#format", "webp");
    await page.focus("#prompt");
    await page.keyboard.press("Control+Enter");
    await says(page, "Done in");
    assert.match(await page.textContent("#images figcaption"), /^Seed 9223372036854775809 · 256x256 · Download$/);
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#images a")]);
    assert.equal(download.suggestedFilename(), "obscura-9223372036854775809.webp");
    assert.equal(readFileSync(await download.path()).subarray(0, 4).toString(), "RIFF");
    assert.deepEqual(complaints, []);
    await page.close();
  });

  await t.test("nothing stale is left after Stop, and what was done is kept below", async () => {
    const { page } = await open(clear);
    await page.waitForSelector("#clear:not([hidden])");
    await page.selectOption("#size", "256x256");
    await page.click("#draw");
    await says(page, "Done in");
    await page.selectOption("#size", "512x512");
    await page.selectOption("#quality", "high");
    await page.click("#draw");
    await page.waitForSelector("#stop:not([hidden])");
    await page.keyboard.press("Escape");
    await says(page, "Stopped.");
    assert.equal(await page.locator("#images figure").count(), 0);
    assert.equal(await page.locator("#earlier img").count(), 1);
    assert.ok(await page.isHidden("#progress") && await page.isEnabled("#draw"));
    await page.close();
  });

  await t.test("every field has a label", async () => {
    const { page } = await open(clear);
    const unlabelled = await page.$$eval("input, select, textarea", (all) => all.filter((one) => one.labels.length === 0).map((one) => one.id));
    assert.deepEqual(unlabelled, []);
    await page.close();
  });

  await t.test("says what to do where clear text is off", async () => {
    const { page, complaints } = await open(sealed);
    await page.waitForSelector("#sealed:not([hidden])");
    assert.ok((await page.textContent("#commands")).includes(`--node ${sealed}`));
    assert.ok(await page.isHidden("#form"));
    const refused = await page.evaluate(async () => (await fetch("v1/images/generations", { method: "POST" })).json());
    assert.equal(refused.error.code, "route_off");
    assert.equal(complaints.length, 1, "the browser's own word of that 404");
    await page.close();
  });
});
