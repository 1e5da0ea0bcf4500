// X25519 where WebCrypto has none (RFC 7748 §5). The page is built without this file.

import { x25519 } from "@noble/curves/ed25519.js";
import { type Bytes, own } from "./bytes.js";

/** The shared secret; zeros where the point has low order. */
export function sharedSecret(secret: Bytes, point: Bytes): Bytes {
  try {
    return own(x25519.getSharedSecret(secret, point));
  } catch {
    return new Uint8Array(32);
  }
}
