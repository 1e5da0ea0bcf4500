// OpenAI's client in front, this protocol behind: `new OpenAI({ fetch: o.openaiFetch() })`.

import { AnswerError, NodeUntrustedError, RefusedError } from "./errors.js";
import { type ImageEvent, type Obscura } from "./client.js";

const PATH = "/v1/images/generations";
const PASSED = ["retry-after", "x-request-id", "x-should-retry"];

/** Answers in OpenAI's words whatever is asked. What is not an image request is answered here, and goes nowhere. */
export function openaiFetch(client: Obscura): typeof globalThis.fetch {
  return async (input, init) => {
    const asked = new Request(input, init);
    const url = new URL(asked.url);
    if (asked.method !== "POST" || url.origin !== client.url || url.pathname !== PATH) {
      return failure(404, "invalid_request_error", "not_sealed", `${asked.method} ${url.pathname} is nothing that is sealed, and was not sent: POST ${client.url}${PATH} is`);
    }
    let request: Record<string, unknown>;
    try {
      request = (await asked.json()) as Record<string, unknown>;
      if (typeof request !== "object" || request === null || Array.isArray(request)) throw new TypeError("not an object");
    } catch {
      return failure(400, "invalid_request_error", null, "the body is not a JSON object, and was not sent");
    }
    // Images come once, as a URL that holds them: told back as the caller asked, they travel once.
    const { response_format } = request;
    if (response_format === "b64_json") request.response_format = undefined;
    try {
      const authorization = asked.headers.get("authorization") ?? undefined;
      const { headers, body, events } = await client.exchange(request, { signal: asked.signal, authorization });
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
