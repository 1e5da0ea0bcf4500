// Digests of WebCrypto, and Ed25519 by the strict rules, which WebCrypto does not keep: it takes keys of small order.

import { Point, verifyAsync } from "@noble/ed25519";
import { type Bytes, concat, hex, own } from "./bytes.js";

type Sha = "SHA-256" | "SHA-384" | "SHA-512";

export const sha = async (algorithm: Sha, ...parts: Uint8Array[]): Promise<Bytes> =>
  new Uint8Array(await crypto.subtle.digest(algorithm, concat(...parts)));

export const sha256 = (...parts: Uint8Array[]): Promise<Bytes> => sha("SHA-256", ...parts);

/**
 * Whether this is the key's signature by RFC 8032's strict rules: no point of small order, canonical encodings, and the
 * equation without the cofactor, so that Rust's `verify_strict` and this agree.
 */
export async function isSignedBy(key: Bytes, message: Bytes, signature: Bytes): Promise<boolean> {
  try {
    if (signature.length !== 64 || key.length !== 32 || !(await verifyAsync(signature, message, key, { zip215: false }))) return false;
    const r = signature.subarray(0, 32);
    const [A, R] = [Point.fromBytes(key, false), Point.fromBytes(r, false)];
    if (A.isSmallOrder() || R.isSmallOrder()) return false;
    const little = (bytes: Uint8Array): bigint => BigInt(`0x${hex(own(bytes.slice().reverse()))}`);
    const k = little(await sha("SHA-512", r, key, message)) % Point.CURVE().n;
    return Point.BASE.multiplyUnsafe(little(signature.subarray(32))).subtract(A.multiplyUnsafe(k)).equals(R);
  } catch {
    return false;
  }
}
