export { Obscura, connect, verify } from "./client.js";
export type { ImageEvent, ImageRequest, ImagesResponse, Options } from "./client.js";
export type { Check, CheckId, Outcome } from "./checks.js";
export { AnswerError, ConfigurationError, ConnectionError, NodeUntrustedError, ObscuraError, RefusedError } from "./errors.js";
export { productionPolicy } from "./policy.js";
export type { Policy } from "./policy.js";
export type { AmdRoot, Roots } from "./roots.js";
export { appraise } from "./verify.js";
export type { Appraisal, Attested, Challenge, Trust, Verdict } from "./verify.js";
