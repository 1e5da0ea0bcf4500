// Why there is no image.

import { printable } from "./bytes.js";
import { type Check } from "./checks.js";

/** Everything that this package throws. */
export class ObscuraError extends Error {
  override name = "ObscuraError";
}

/** What the caller gave cannot be used. */
export class ConfigurationError extends ObscuraError {
  override name = "ConfigurationError";
}

/** The node's evidence is refused: nothing was sent to it. */
export class NodeUntrustedError extends ObscuraError {
  override name = "NodeUntrustedError";
  constructor(readonly checks: Check[]) {
    const failing = checks.filter((check) => check.outcome === "FAIL");
    const reasons = failing.map(({ id, detail }) => (detail === "" ? id : `${id} (${detail})`)).join(", ");
    super(`the node's evidence was refused, and nothing was sent to it: ${reasons}`);
  }
}

/** What is wrong with an answer. */
export type AnswerFault =
  | "malformed" | "reflected" | "decryption" | "hash" | "signature" | "signer" | "receipt_missing" | "receipt" | "shape" | "order" | "cut";

/** An answer that does not hold up: somebody changed it, or it is not the attested node's. */
export class AnswerError extends ObscuraError {
  override name = "AnswerError";
  constructor(readonly fault: AnswerFault, message: string) {
    super(message);
  }
}

/** The node cannot be reached, or answers what is no answer of this protocol. */
export class ConnectionError extends ObscuraError {
  override name = "ConnectionError";
}

/** The node says no, in OpenAI's words. */
export class RefusedError extends ObscuraError {
  override name = "RefusedError";
  /** In the node's words. */
  readonly reason: string;
  readonly type: string;
  readonly code: string | null;
  readonly param: string | null;
  constructor(
    readonly status: number,
    error: { message?: unknown; type?: unknown; code?: unknown; param?: unknown },
    /** Among them `retry-after`. Whoever is on the way may have written them. */
    readonly headers: Headers,
    /** Whether the attested node itself said so, sealed; else anybody on the way may have. */
    readonly attested: boolean,
  ) {
    const reason = printable(error.message ?? "no reason given");
    super(`the node refused (${status}): ${reason}`);
    this.reason = reason;
    const name = (value: unknown): string | null => (typeof value === "string" ? printable(value) : null);
    this.type = name(error.type) ?? "api_error";
    this.code = name(error.code);
    this.param = name(error.param);
  }
  /** Seconds after which to ask again, where the node says so. */
  get retryAfter(): number | undefined {
    const text = this.headers.get("retry-after");
    return text !== null && /^\d{1,6}(\.\d+)?$/.test(text) ? Number(text) : undefined;
  }
}
