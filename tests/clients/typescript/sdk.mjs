// The SDK as it was built, and what its tests share.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { after } from "node:test";
import { pathToFileURL } from "node:url";

const DIST = path.join(process.env.OBSCURA_SDK, "typescript", "dist");

/** A module of the SDK, also one that the package does not export. */
export const module = (name) => import(pathToFileURL(path.join(DIST, `${name}.js`)));

export const VECTORS = path.join(process.env.OBSCURA_FIXTURES, "../vectors");
export const vector = (...names) => JSON.parse(readFileSync(path.join(VECTORS, ...names)));

/** What the SDK makes of a report, under a case's policy, challenge and roots. */
export async function judge(appraise, { policy, simulated, roots, nonce, now }, report) {
  const { certificate, pemChain } = await module("x509");
  const { unhex } = await module("bytes");
  const root = (pem) => certificate(pemChain(pem)[0]);
  return appraise(new Uint8Array(report), { nonce: nonce === null ? new Uint8Array(32) : unhex(nonce), now }, {
    policy: policy === "production" ? undefined : policy,
    acceptSimulated: simulated !== null,
    simulatedRules: typeof simulated === "object" ? simulated ?? undefined : undefined,
    roots: roots === "built in" ? {} : { amd: vector("roots", `${roots}.json`).amd.map(({ generation, ark, ask }) => ({ generation, ark: root(ark), ask: root(ask) })) },
  });
}

export const MODEL = "obscura/demo";
export const PROMPT = "an unmistakable zebra under a violet umbrella";
export const SMALL = { model: MODEL, prompt: PROMPT, size: "64x64" };

/** A prompt's words lie nowhere in what was sent: not as they are, in hex, or at any offset of base64. */
export function assertNoPrompt(bytes) {
  for (const word of PROMPT.split(" ").filter((word) => word.length > 4)) {
    const forms = [word, Buffer.from(word).toString("hex")];
    // Without what its neighbours in a group of three change.
    const offsets = word.length < 8 ? [] : [[0, 0], [1, 2], [2, 3]];
    for (const [before, skipped] of offsets) forms.push(Buffer.from("x".repeat(before) + word).toString("base64").slice(skipped, -4));
    for (const form of forms) assert.ok(!bytes.includes(form), `«${word}» left as ${form}`);
  }
}

/**
 * A relay that stands between a client and a node, for as long as a file's tests run. `evidence`, `answer` and `event`
 * change what comes back; every byte that a client sends is kept.
 */
export async function relay(node) {
  const state = { url: "", sent: [], reset: () => Object.assign(state, { sent: [], evidence: undefined, answer: undefined, events: undefined }) };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const head = `${request.method} ${request.url}\n${request.rawHeaders.join("\n")}`;
    state.sent.push({ path: request.url.split("?")[0], nonce: new URLSearchParams(request.url.split("?")[1]).get("nonce"), head, body: body.toString("latin1") });
    const isEvidence = request.url.startsWith("/v1/attestation");
    const hook = isEvidence ? state.evidence : state.answer;
    const forward = async (to = node, url = request.url) => {
      const { host: _, connection: __, ...headers } = request.headers;
      const answer = await fetch(to + url, { method: request.method, headers, body: body.length > 0 ? body : undefined });
      return { status: answer.status, headers: Object.fromEntries(answer.headers), body: Buffer.from(await answer.arrayBuffer()) };
    };
    let answer = hook ? await hook({ forward, body, nonce: state.sent.at(-1).nonce }) : await forward();
    if (!isEvidence && state.events && answer.headers["content-type"] === "text/event-stream") {
      const events = answer.body.toString().split("\n").filter((line) => line.startsWith("data:"));
      answer = { ...answer, body: Buffer.from(state.events(events).map((event) => `${event}\n\n`).join("")) };
    }
    delete answer.headers["content-length"];
    delete answer.headers["transfer-encoding"];
    response.writeHead(answer.status, answer.headers);
    response.end(answer.body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  after(() => (server.closeAllConnections(), server.close()));
  state.url = `http://127.0.0.1:${server.address().port}`;
  return state;
}

export const paths = (state) => state.sent.map(({ path }) => path);
export const SEALED = "/v1/confidential/images/generations";
export const EVIDENCE = "/v1/attestation";
