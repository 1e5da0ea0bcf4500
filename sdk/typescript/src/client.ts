// A client of one node: evidence first, and no byte of a prompt to a node that fails.

import { type Bytes, hex, text } from "./bytes.js";
import { AnswerError, ConfigurationError, ConnectionError, NodeUntrustedError, RefusedError } from "./errors.js";
import { Http, jsonBody, messages, refusalBody } from "./http.js";
import { type InputImage, editFields } from "./images.js";
import { openaiFetch } from "./openai.js";
import { readPolicy } from "./rules.js";
import { MAX_REPORT_BYTES } from "./report.js";
import { type Roots } from "./roots.js";
import { type AnswerParts, type Opener, seal } from "./seal.js";
import { type Appraisal, type Attested, type Trust, appraise } from "./verify.js";

const MAX_AGE_SECS = 600;
const MARGIN_SECS = 60;

/** What a request asks for: its route, and how its events are called. */
export type Operation = "generations" | "edits";
const EVENTS = { generations: "image_generation", edits: "image_edit" };

export interface Options {
  /** attestation/policy.toml's rules as JSON; this release's own unless given. */
  policy?: unknown;
  /** Accepts simulated nodes too. Whoever runs one reads every prompt. */
  acceptSimulated?: boolean;
  apiKey?: string;
  /** Sends the API key over plain http:// to other machines too. */
  insecureHttp?: boolean;
  /** Other roots than Intel's, AMD's and NVIDIA's: for tests. Whoever holds their keys is believed. */
  roots?: Partial<Roots>;
  /** Seconds since 1970. */
  now?: number | (() => number);
  fetch?: typeof globalThis.fetch;
}

/** The fields of docs/api.md. */
export interface ImageRequest {
  model: string; prompt: string; n?: number; size?: string; quality?: string; style?: string; seed?: number; steps?: number;
  output_format?: string; partial_images?: number; progress?: boolean;
  /** What to draw it from: the request is an edit then, which not every model takes. */
  images?: InputImage[];
  /** As large as the first of them: transparent where that is drawn anew, opaque where it is kept. */
  mask?: InputImage;
  [field: string]: unknown;
}

export interface ImagesResponse {
  created: number;
  data: { url: string; b64_json?: string; revised_prompt?: string; provenance?: Record<string, unknown> }[];
  seed?: number;
  warnings?: string[];
  [field: string]: unknown;
}

/** One event of a stream: `type` is `image_generation.progress`, `.partial_image` or `.completed`; of an edit, `image_edit.…`. */
export interface ImageEvent {
  type: string; sequence_number: number; b64_json?: string; index?: number; partial_image_index?: number;
  step?: number; steps?: number; seed?: number; final?: boolean; error?: Record<string, unknown>;
  [field: string]: unknown;
}

/** The attested node's answer: a body, or events that are still to come. */
interface Exchanged {
  headers: Headers;
  body?: Record<string, unknown>;
  events?: AsyncGenerator<ImageEvent, void, undefined>;
}

interface Session {
  attested: Attested;
  since: number;
  /** When to ask for evidence anew: before the keys end, and every ten minutes. */
  until: number;
}

/** Verifies a node. Throws `NodeUntrustedError` with every check where its evidence is refused. */
export async function connect(url: string, options: Options = {}): Promise<Obscura> {
  const client = new Obscura(url, options);
  const appraisal = await client.verify();
  if (appraisal.attested === undefined) throw new NodeUntrustedError(appraisal.checks);
  return client;
}

/** A model as a node tells of it. */
export interface ModelInfo {
  id: string;
  /** How many images an edit may give it; 0 where it draws from words alone. */
  inputImages: number;
}

/** Asks a node for evidence with a fresh nonce, and judges it. Sends nothing else. */
export const verify = (url: string, options: Options = {}): Promise<Appraisal> => new Obscura(url, options).verify();

export class Obscura {
  readonly url: string;
  readonly #http: Http;
  readonly #trust: Trust;
  readonly #now: () => number;
  readonly #authorization: string | undefined;
  #session: Session | undefined;
  #appraisal: Appraisal | undefined;
  #asking: Promise<Appraisal> | undefined;

  constructor(url: string, options: Options) {
    this.#http = new Http(url, options.fetch ?? globalThis.fetch.bind(globalThis), options.insecureHttp ?? false);
    this.url = this.#http.base;
    this.#trust = {
      policy: options.policy === undefined ? undefined : readPolicy(options.policy),
      acceptSimulated: options.acceptSimulated === true, roots: options.roots, tls: this.#http.isTls,
    };
    const { now = () => Math.floor(Date.now() / 1000) } = options;
    this.#now = typeof now === "number" ? () => now : now;
    this.#authorization = options.apiKey === undefined ? undefined : `Bearer ${bearerKey(options.apiKey)}`;
    this.#http.authorization(this.#authorization);
  }

  /** What the accepted evidence vouches for. */
  get attested(): Attested | undefined {
    return this.#session?.attested;
  }

  /** What came of the last evidence. */
  get appraisal(): Appraisal | undefined {
    return this.#appraisal;
  }

  /** Its models, the first one first. Anybody on the way may have written it: a suggestion. */
  async info(): Promise<{ models: ModelInfo[] }> {
    const response = await this.#http.get("/info");
    const { models } = response.status === 200 ? lenient(await jsonBody(response, MAX_REPORT_BYTES)) : {};
    const told = (Array.isArray(models) ? models : []) as ({ id?: unknown; input_images?: unknown } | null)[];
    return {
      models: told.flatMap((model) => {
        const [id, most] = [model?.id, model?.input_images];
        return typeof id === "string" ? [{ id, inputImages: Number.isSafeInteger(most) ? Math.max(0, most as number) : 0 }] : [];
      }),
    };
  }

  /** Asks for evidence anew, and judges it. While it is not accepted, nothing is sent. */
  verify(): Promise<Appraisal> {
    this.#asking ??= this.#attest().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** Seals a request, and gives the answer of the attested node. */
  async generate(request: ImageRequest, { signal }: { signal?: AbortSignal } = {}): Promise<ImagesResponse> {
    return (await this.#ask({ ...request, stream: undefined }, signal)).body as unknown as ImagesResponse;
  }

  /** The same as events. One that is missing, repeated, moved or forged is an error, and so is an early end. */
  async *stream(request: ImageRequest, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<ImageEvent, void, undefined> {
    const { events, headers } = await this.#ask({ ...request, stream: true }, signal);
    for await (const event of events!) {
      if (event.type === "error") throw new RefusedError(200, event.error ?? {}, headers, true);
      yield event;
    }
  }

  async #ask(request: ImageRequest, signal: AbortSignal | undefined): Promise<Exchanged> {
    const { images, mask } = request;
    if (images === undefined && mask === undefined) return this.exchange("generations", request, { signal });
    return this.exchange("edits", { ...request, ...(await editFields(images ?? [], mask)) }, { signal });
  }

  /** A fetch for OpenAI's client: images are sealed, and nothing else is sent. */
  openaiFetch(): typeof globalThis.fetch {
    return openaiFetch(this);
  }

  /** One sealed exchange: a body, or with `stream: true` events. For `openaiFetch`. */
  async exchange(
    operation: Operation, request: Record<string, unknown>, { signal, authorization }: { signal?: AbortSignal; authorization?: string },
  ): Promise<Exchanged> {
    const stream = request.stream === true;
    const credentials = this.#http.authorization(authorization ?? this.#authorization);
    for (let attempt = 0; ; attempt++) {
      const attested = await this.#recipient();
      signal?.throwIfAborted();
      const [parts, opener] = await seal(attested.exchangeKey, request);
      const model_name = typeof request.model === "string" ? request.model : "";
      const envelope = { ...parts, model_name, num_compute_units: null, stack_small_id: 0, stream };
      const response = await this.#http.post(`/v1/confidential/images/${operation}`, envelope, credentials, signal);
      const { headers } = response;
      if (response.status === 422 && attempt === 0) {
        // The node's keys are others now. They are sealed to when their evidence is accepted.
        await response.body?.cancel().catch(() => undefined);
        this.#session = undefined;
        continue;
      }
      if (response.status !== 200) throw await refusal(response, opener, attested);
      if (stream) return { headers, events: events(response, opener, attested, EVENTS[operation]) };
      const body = object(await opener.open(parse(await jsonBody(response)), attested));
      if (!Array.isArray(body.data) || !body.data.every((entry: { url?: unknown }) => typeof entry?.url === "string")) throw new AnswerError("shape", "the answer holds no images");
      return { headers, body };
    }
  }

  async #recipient(): Promise<Attested> {
    const now = this.#now();
    const session = this.#session;
    if (session !== undefined && session.since <= now && now < session.until) return session.attested;
    const appraisal = await this.verify();
    if (appraisal.attested === undefined) throw new NodeUntrustedError(appraisal.checks);
    return appraisal.attested;
  }

  async #attest(): Promise<Appraisal> {
    this.#session = undefined;
    const nonce = crypto.getRandomValues(new Uint8Array(32));
    // Without the API key: over TLS nobody is known yet.
    const response = await this.#http.get(`/v1/attestation?nonce=${hex(nonce)}`);
    if (response.status !== 200) throw new RefusedError(response.status, words(await refusalBody(response)), response.headers, false);
    const report = await jsonBody(response, MAX_REPORT_BYTES);
    const now = this.#now();
    const appraisal = await appraise(report, { nonce, now }, this.#trust);
    const { attested } = (this.#appraisal = appraisal);
    if (attested !== undefined) {
      const left = attested.notAfter - now;
      this.#session = { attested, since: now, until: now + Math.min(MAX_AGE_SECS, left - Math.min(MARGIN_SECS, left / 2)) };
    }
    return appraisal;
  }
}

/** The key, where a header can carry it: visible ASCII. A line's end, which is read along with a key, is none. */
function bearerKey(key: string): string {
  if (typeof key !== "string" || !/^[!-~]{1,4096}$/.test(key)) throw new ConfigurationError("the API key must be 1 to 4096 visible ASCII characters");
  return key;
}

/** The events of one answer. Whoever stops reading, or finds a fault, ends the connection. */
export async function* events(
  response: Response, opener: Opener, attested: Attested, name = EVENTS.generations,
): AsyncGenerator<ImageEvent, void, undefined> {
  const types = ["error", ...["progress", "partial_image", "completed"].map((kind) => `${name}.${kind}`)];
  let expected = 0;
  for await (const data of messages(response)) {
    const event = object(await opener.open(parse(data), attested)) as unknown as ImageEvent;
    if (!types.includes(event.type) || !Number.isSafeInteger(event.sequence_number)) throw new AnswerError("shape", "an event of an unknown kind");
    if (event.sequence_number !== expected) throw new AnswerError("order", `event ${event.sequence_number} of the answer came where ${expected} was due`);
    expected++;
    yield event;
    if (event.final === true || event.type === "error") return;
  }
  throw new AnswerError("cut", "the answer was cut off before its end");
}

/** The refusal that was sealed to this client alone says which rule was broken. */
async function refusal(response: Response, opener: Opener, attested: Attested): Promise<RefusedError> {
  const { status, headers } = response;
  const body = await refusalBody(response);
  const json = lenient(body);
  if (typeof json.ciphertext !== "string") return new RefusedError(status, words(body), headers, false);
  return new RefusedError(status, words(await opener.open(json as AnswerParts, attested)), headers, true);
}

const words = (body: Bytes): Record<string, unknown> => {
  const { error } = lenient(body);
  return typeof error === "object" && error !== null ? (error as Record<string, unknown>) : {};
};

function lenient(body: Bytes): Record<string, unknown> {
  try {
    return parse(body);
  } catch {
    return {};
  }
}

/** What somebody on the way may have written. */
function parse(bytes: Bytes): Record<string, unknown> {
  try {
    return object(bytes);
  } catch {
    throw new ConnectionError("the node's answer is not of the protocol's shape");
  }
}

function object(bytes: Bytes): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text(bytes) ?? "");
  } catch {
    // Without the parser's message, which quotes the body.
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw new AnswerError("shape", "the answer is not of the protocol's shape");
  return json as Record<string, unknown>;
}

