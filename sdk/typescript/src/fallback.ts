// Curve25519 for runtimes whose WebCrypto has none. The page is built without this file.

import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { type Bytes, concat, hex, own } from "./bytes.js";

/** The shared secret (RFC 7748 §5); zeros where the point has low order. */
export function sharedSecret(secret: Bytes, point: Bytes): Bytes {
  try {
    return own(x25519.getSharedSecret(secret, point));
  } catch {
    return new Uint8Array(32);
  }
}

/** Whether S·B = R + k·A (RFC 8032 §5.1.7), without the cofactor, with S reduced and canonical points. */
export async function isEquation(key: Bytes, message: Bytes, signature: Bytes): Promise<boolean> {
  try {
    const { Point } = ed25519;
    const r = signature.subarray(0, 32);
    const little = (bytes: Uint8Array): bigint => BigInt(`0x${hex(own(bytes.slice().reverse()))}`);
    const k = little(new Uint8Array(await crypto.subtle.digest("SHA-512", concat(r, key, message)))) % Point.Fn.ORDER;
    const [A, R] = [Point.fromBytes(key, false), Point.fromBytes(r, false)];
    return Point.BASE.multiplyUnsafe(little(signature.subarray(32))).subtract(A.multiplyUnsafe(k)).equals(R);
  } catch {
    return false;
  }
}
