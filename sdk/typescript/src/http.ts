// Requests to the node: bounded, never redirected, without cookies, and no bearer key in clear text.

import { type Bytes, concat } from "./bytes.js";
import { ConfigurationError, ConnectionError } from "./errors.js";

const MAX_ANSWER_BYTES = 160 * 1024 * 1024;
const MAX_WORDS_BYTES = 1024 * 1024;
const MAX_LINE_BYTES = 64 * 1024 * 1024;
const MAX_LINES = 100_000;
const GET_TIMEOUT_MS = 90_000;
const ANSWER_TIMEOUT_MS = 600_000;

export class Http {
  /** What stands before `/v1`: the URL's origin, and its path where it has one. */
  readonly base: string;
  readonly isTls: boolean;
  readonly #isPrivate: boolean;

  constructor(url: string, readonly fetch: typeof globalThis.fetch, insecureHttp: boolean) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    if (parsed === undefined || !["http:", "https:"].includes(parsed.protocol) || parsed.username !== "" || parsed.password !== "" || /[?#]/.test(url)) {
      throw new ConfigurationError("the node's URL must begin with http:// or https:// and name a host, and no user, query or fragment");
    }
    let { length } = parsed.pathname;
    while (parsed.pathname[length - 1] === "/") length--;
    this.base = parsed.origin + parsed.pathname.slice(0, length);
    if (this.base.endsWith("/v1")) throw new ConfigurationError("the node's URL ends before /v1: leave that out");
    this.isTls = parsed.protocol === "https:";
    this.#isPrivate = this.isTls || insecureHttp || isLoopback(parsed.hostname);
  }

  /** The bearer key's header; refuses where everyone on the way could read it. */
  authorization(value: string | undefined): Record<string, string> {
    if (value === undefined) return {};
    if (!this.#isPrivate) throw new ConfigurationError("the API key is not sent over plain http://, where everyone on the way can read it");
    return { authorization: value };
  }

  get(path: string): Promise<Response> {
    return this.#send(path, { method: "GET", signal: AbortSignal.timeout(GET_TIMEOUT_MS) });
  }

  post(path: string, body: unknown, headers: Record<string, string>, signal: AbortSignal | undefined): Promise<Response> {
    const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    return this.#send(path, {
      method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers },
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    const { fetch } = this;
    try {
      // A node has no reason to send a sealed request, or whoever has a key, elsewhere.
      return await fetch(this.base + path, { ...init, redirect: "error", credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new ConnectionError("the node cannot be reached, or wanted to send this client elsewhere", { cause: error });
    }
  }
}

/** All of a body, if it says that it is JSON where it says anything. */
export function jsonBody(response: Response, max = MAX_ANSWER_BYTES): Promise<Bytes> {
  return isOfType(response, "application/json").then(() => wholeBody(response, max));
}

/** Why a node refuses: all of it, whatever type it says it is of. */
export const refusalBody = (response: Response): Promise<Bytes> => wholeBody(response, MAX_WORDS_BYTES);

async function wholeBody(response: Response, max: number): Promise<Bytes> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunksOf(response)) {
    length += chunk.length;
    if (length > max) throw new ConnectionError(`the node's answer is longer than ${max} bytes`);
    chunks.push(chunk);
  }
  return concat(...chunks);
}

/** What the messages of an event stream say; a message is one line of `data`. What ends without a line's end is a cut. */
export async function* messages(response: Response): AsyncGenerator<Bytes, void, undefined> {
  await isOfType(response, "text/event-stream");
  let pending: Uint8Array[] = [];
  let [pendingBytes, bytes, lines] = [0, 0, 0];
  for await (const chunk of chunksOf(response)) {
    bytes += chunk.length;
    if (bytes > 4 * MAX_ANSWER_BYTES) throw new ConnectionError("the node's stream does not end");
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; start = end + 1, end = chunk.indexOf(10, start)) {
      if (++lines > MAX_LINES) throw new ConnectionError("the node's stream has too many lines");
      const line = concat(...pending, chunk.subarray(start, end));
      [pending, pendingBytes] = [[], 0];
      // Comments keep the connection alive; names and ids say nothing that a proxy could not have changed.
      if (String.fromCharCode(...line.subarray(0, 5)) === "data:") yield line.subarray(5);
    }
    pending.push(chunk.subarray(start));
    pendingBytes += chunk.length - start;
    if (pendingBytes > MAX_LINE_BYTES) throw new ConnectionError("the node's stream has a line that does not end");
  }
}

/** Cancels the body where nobody reads on: a connection would keep a process alive. */
async function* chunksOf(response: Response): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        ended = true;
        if (error instanceof DOMException) throw error;
        throw new ConnectionError("the connection to the node broke", { cause: error });
      });
      if (done) {
        ended = true;
        return;
      }
      yield value;
    }
  } finally {
    if (!ended) await reader.cancel().catch(() => undefined);
  }
}

async function isOfType(response: Response, expected: string): Promise<void> {
  const found = response.headers.get("content-type")?.split(";")[0].trim().toLowerCase();
  if (found === undefined || found === expected) return;
  await response.body?.cancel().catch(() => undefined);
  throw new ConnectionError(`the node's answer is not of the type ${expected}`);
}

/** A name below `localhost` is none: a resolver may know it. */
function isLoopback(host: string): boolean {
  return host === "localhost" || /^127\.\d+\.\d+\.\d+$/.test(host) || host === "[::1]" || /^\[::ffff:7f[0-9a-f]{2}:[0-9a-f]+\]$/.test(host);
}
