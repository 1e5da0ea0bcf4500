// Digests and Ed25519 of WebCrypto, by stricter rules than its own: it takes keys of small order.

import { type Bytes, concat, hex } from "./bytes.js";
import { isEquation } from "./fallback.js";

type Sha = "SHA-256" | "SHA-384" | "SHA-512";

/** Node before version 23 warns that Ed25519 and X25519 of its WebCrypto are an experiment: they are not used there. */
export const hasCurve25519 = !(Number((globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node?.split(".")[0]) < 23);

export const sha = async (algorithm: Sha, ...parts: Uint8Array[]): Promise<Bytes> =>
  new Uint8Array(await crypto.subtle.digest(algorithm, concat(...parts)));

export const sha256 = (...parts: Uint8Array[]): Promise<Bytes> => sha("SHA-256", ...parts);

/**
 * Whether this is the key's signature by RFC 8032's strict rules: no point of small order, canonical encodings, and the
 * equation without the cofactor, so that Rust's `verify_strict` and this agree. The runtimes' own equation is that one.
 */
export async function isSignedBy(key: Bytes, message: Bytes, signature: Bytes): Promise<boolean> {
  if (signature.length !== 64 || ![key, signature.subarray(0, 32)].every(isStrictPoint)) return false;
  try {
    if (hasCurve25519) return await crypto.subtle.verify("Ed25519", await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]), signature, message);
  } catch (error) {
    if ((error as Error).name !== "NotSupportedError") return false;
  }
  return isEquation(key, message, signature);
}

const P = 2n ** 255n - 19n;
/** The y of a point of order 8; that of its negative is P - Y8. */
const Y8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
/** The y of every point whose order divides 8: orders 4, 1, 2, and 8 twice. */
const SMALL_ORDER = [0n, 1n, P - 1n, Y8, P - Y8];

/** Whether an encoding of a point (RFC 8032 §5.1.2) has a reduced y, and one that no point of small order has. */
export function isStrictPoint(encoded: Bytes): boolean {
  if (encoded.length !== 32) return false;
  const y = BigInt(`0x${hex(encoded.slice().reverse())}`) & (2n ** 255n - 1n);
  return y < P && !SMALL_ORDER.includes(y);
}
