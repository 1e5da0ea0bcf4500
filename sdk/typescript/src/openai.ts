// OpenAI's client in front, this protocol behind: `new OpenAI({ fetch: o.openaiFetch() })`.

import { AnswerError, ConfigurationError, NodeUntrustedError, RefusedError } from "./errors.js";
import { type ImageEvent, type Obscura, type Operation } from "./client.js";
import { editFields } from "./images.js";

const PATHS: Record<string, Operation> = { "/v1/images/generations": "generations", "/v1/images/edits": "edits" };
const PASSED = ["retry-after", "x-request-id", "x-should-retry"];

/** Answers in OpenAI's words whatever is asked. What is not an image request is answered here, and goes nowhere. */
export function openaiFetch(client: Obscura): typeof globalThis.fetch {
  return async (input, init) => {
    const asked = new Request(input, init);
    const url = new URL(asked.url);
    const route = url.origin + url.pathname;
    const path = route.startsWith(client.url) ? route.slice(client.url.length) : "";
    const operation = Object.hasOwn(PATHS, path) ? PATHS[path] : undefined;
    if (asked.method !== "POST" || operation === undefined) {
      return failure(404, "invalid_request_error", "not_sealed", `${asked.method} ${url.pathname} is nothing that is sealed, and was not sent: POST ${client.url}${Object.keys(PATHS).join(" or ")} is`);
    }
    let request: Record<string, unknown>;
    try {
      const isForm = operation === "edits" && asked.headers.get("content-type")?.startsWith("multipart/form-data");
      request = isForm ? await formRequest(await asked.formData()) : ((await asked.json()) as Record<string, unknown>);
      if (typeof request !== "object" || request === null || Array.isArray(request)) throw new TypeError("not an object");
    } catch (error) {
      const wrong = error instanceof ConfigurationError ? error.message : `the body is not a JSON object${operation === "edits" ? ", and no form" : ""}`;
      return failure(400, "invalid_request_error", null, `${wrong}; nothing was sent`);
    }
    // Images come once, as a URL that holds them: told back as the caller asked, they travel once.
    const { response_format } = request;
    if (response_format === "b64_json") request.response_format = undefined;
    try {
      const authorization = asked.headers.get("authorization") ?? undefined;
      const { headers, body, events } = await client.exchange(operation, request, { signal: asked.signal, authorization });
      if (events !== undefined) return new Response(eventStream(events), { headers: passed(headers, "text/event-stream") });
      const { data, ...rest } = body as { data: { url: string; b64_json?: string }[] };
      const told = response_format === "url" ? data : data.map(({ url, ...entry }) => ({ b64_json: entry.b64_json ?? url.slice(url.indexOf(",") + 1), ...entry }));
      return Response.json({ ...rest, data: told }, { headers: passed(headers, "application/json") });
    } catch (error) {
      if (error instanceof RefusedError) {
        const { reason, type, code, param } = error;
        return Response.json({ error: { message: reason, type, code, param } }, { status: error.status, headers: passed(error.headers, "application/json") });
      }
      if (error instanceof NodeUntrustedError) return failure(502, "api_error", "node_untrusted", error.message);
      if (error instanceof AnswerError) return failure(502, "api_error", "answer_untrusted", error.message);
      throw error;
    }
  };
}

const NUMBERS = ["n", "output_compression", "partial_images", "seed", "steps", "guidance"];
const FLAGS = ["stream", "progress"];

/** The form that OpenAI's client sends for an edit, as the JSON that is sealed. What is no number stays a text, which the node refuses by its name. */
export async function formRequest(form: FormData): Promise<Record<string, unknown>> {
  const request: Record<string, unknown> = {};
  const files: Record<"images" | "mask", File[]> = { images: [], mask: [] };
  for (const [name, value] of form) {
    const file = name === "image" || name === "image[]" ? files.images : name === "mask" ? files.mask : undefined;
    if ((file !== undefined) !== (value instanceof File)) throw new ConfigurationError(`${name} ${file ? "is no file" : "is a file"}`);
    if (value instanceof File) {
      file!.push(value);
      continue;
    }
    if (Object.hasOwn(request, name)) throw new ConfigurationError(`${name} stands twice`);
    const isNumber = NUMBERS.includes(name) && /^-?\d{1,15}(\.\d+)?$/.test(value);
    const isFlag = FLAGS.includes(name) && /^(true|false)$/.test(value);
    request[name] = isNumber ? Number(value) : isFlag ? value === "true" : value;
  }
  if (files.mask.length > 1) throw new ConfigurationError("mask stands twice");
  return { ...request, ...(await editFields(files.images, files.mask[0])) };
}

function passed(from: Headers, type: string): Headers {
  const headers = new Headers({ "content-type": type });
  for (const name of PASSED) {
    const value = from.get(name);
    if (value !== null) headers.set(name, value);
  }
  return headers;
}

/** To ask again would not help. */
function failure(status: number, type: string, code: string | null, message: string): Response {
  return Response.json({ error: { message, type, code, param: null } }, { status, headers: { "x-should-retry": "false" } });
}

function eventStream(events: AsyncGenerator<ImageEvent, void, undefined>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await events.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(`event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`));
      } catch (error) {
        controller.error(error);
      }
    },
    async cancel() {
      await events.return();
    },
  });
}
