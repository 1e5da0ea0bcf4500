// X25519 where WebCrypto has none (RFC 7748 §5). The page is built without this file.

import { x25519 } from "@noble/curves/ed25519.js";
import { type Bytes, own } from "./bytes.js";

/** Throws where the result is zero. */
export const sharedSecret = (secret: Bytes, point: Bytes): Bytes => own(x25519.getSharedSecret(secret, point));
