// A node with the demo model on loopback, and a proxy of it, for as long as a file's tests run.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";
import { after } from "node:test";

/** Starts a node, and stops it after the tests; its URL. */
export async function serve({ plaintext = true, model = "demo", more = [] } = {}) {
  const args = ["serve", "--model", model, "--tee", "simulated", "--device", "cpu"];
  const node = spawn(process.env.OBSCURA_BIN, [...args, "--listen", "127.0.0.1:0", ...(plaintext ? ["--allow-plaintext"] : []), ...more], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  after(async () => {
    node.kill("SIGTERM");
    const [code] = await once(node, "exit");
    assert.equal(code, 0, "SIGTERM must end the node cleanly");
  });
  const [line] = await once(readline.createInterface(node.stdout), "line");
  const url = line.split(" ").at(-1);
  while ((await fetch(`${url}/readyz`)).status !== 200) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return url;
}

/** What writes a small model that takes input images, with random weights; where there is none, tests with it are skipped. */
export const KLEIN_WRITER = process.env.KLEIN_MODEL_WRITER;
export const KLEIN = "klein-noise";

/** Starts a node with that model, and stops it after the tests; its URL. */
export async function serveKlein() {
  const directory = mkdtempSync(path.join(os.tmpdir(), "obscura-"));
  after(() => rmSync(directory, { recursive: true }));
  execFileSync(KLEIN_WRITER, [path.join(directory, KLEIN)]);
  return serve({ model: path.join(directory, KLEIN) });
}

/** Starts a proxy of a node, and stops it after the tests; its URL. */
export async function standBeside(node) {
  const args = ["proxy", "--node", node, "--accept-simulated", "--listen", "127.0.0.1:0"];
  const proxy = spawn(process.env.OBSCURA_BIN, args, { stdio: ["ignore", "pipe", "inherit"] });
  // Before the node, which would wait for its connections.
  after(async () => {
    proxy.kill("SIGTERM");
    const [code] = await once(proxy, "exit");
    assert.equal(code, 0, "SIGTERM must end the proxy cleanly");
  });
  const [line] = await once(readline.createInterface(proxy.stdout), "line");
  return line.split(" ").at(-1);
}
