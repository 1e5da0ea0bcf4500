// Sealing a request, and opening what answers it: docs/wire.md.

import { hash } from "./blake2b.js";
import { type Bytes, base64, concat, equal, isZero, unbase64, utf8 } from "./bytes.js";
import { hasCurve25519, isSignedBy } from "./crypto.js";
import { AnswerError, ConfigurationError } from "./errors.js";
import { sharedSecret } from "./fallback.js";
import { type Attested } from "./verify.js";

const FLOOR_BYTES = 4096;
const MAX_BYTES = 160 * 1024 * 1024;
const PKCS8_X25519 = Uint8Array.from([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20]);

/** What is sent of a sealed body. */
export interface SealedParts {
  ciphertext: string; nonce: string; salt: string;
  client_dh_public_key: string; node_dh_public_key: string; plaintext_body_hash: string;
}

/** What a client draws for one request. */
export interface Draws {
  secret: Bytes; salt: Bytes; nonce: Bytes;
}

/** The binary fields of an answer, as they travel. */
export type AnswerParts = Partial<Record<"ciphertext" | "nonce" | "response_hash" | "signature" | "receipt", unknown>>;

const random = (length: number): Bytes => crypto.getRandomValues(new Uint8Array(length));

/** Seals a JSON body to a node's key, salted and padded, so that neither its hash nor its length tells of the prompt. */
export async function seal(nodeKey: Bytes, request: Record<string, unknown>): Promise<[SealedParts, Opener]> {
  const padding = base64(random(32)).replace(/=+$/, "");
  return sealExact(nodeKey, pad(utf8(JSON.stringify({ ...request, padding }))), { secret: random(32), salt: random(16), nonce: random(12) });
}

/** Seals exactly these bytes with exactly these secrets: for test vectors. */
export async function sealExact(nodeKey: Bytes, body: Bytes, { secret, salt, nonce }: Draws): Promise<[SealedParts, Opener]> {
  const shared = isReduced(nodeKey) ? await multiply(secret, nodeKey) : new Uint8Array(32);
  if (isZero(shared)) throw new ConfigurationError("the node's key cannot be sealed to");
  const key = await derive(shared, salt);
  const clientKey = await multiply(secret, new Uint8Array([9, ...new Uint8Array(31)]));
  const ciphertext = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv: nonce }, key, body));
  const requestHash = hash(body);
  const parts = {
    ciphertext: base64(ciphertext), nonce: base64(nonce), salt: base64(salt),
    client_dh_public_key: base64(clientKey), node_dh_public_key: base64(nodeKey), plaintext_body_hash: base64(requestHash),
  };
  return [parts, new Opener(key, nonce, requestHash, clientKey, nodeKey)];
}

/** Opens what answers one request. */
export class Opener {
  constructor(
    readonly key: CryptoKey, readonly requestNonce: Bytes, readonly requestHash: Bytes,
    readonly clientKey: Bytes, readonly nodeKey: Bytes,
  ) {}

  /** The body of an answer whose hash, signature and receipt hold: the attested node's, to this very request. */
  async open(parts: AnswerParts, attested: Pick<Attested, "signingKey" | "modelManifest" | "keysetDigest">): Promise<Bytes> {
    const nonce = field("nonce", parts.nonce, 12);
    const responseHash = field("response_hash", parts.response_hash, 32);
    const ciphertext = unbase64(parts.ciphertext, MAX_BYTES);
    if (ciphertext === undefined) throw new AnswerError("malformed", "the answer's ciphertext is malformed");
    if (equal(nonce, this.requestNonce)) throw new AnswerError("reflected", "the answer carries the request's nonce: it is the request, sent back");
    let body: Bytes;
    try {
      body = new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv: nonce }, this.key, ciphertext));
    } catch {
      throw new AnswerError("decryption", "the answer cannot be decrypted: it was changed, or is another request's");
    }
    if (!equal(hash(body), responseHash)) throw new AnswerError("hash", "the answer's hash is not that of the answer");
    const signature = field("signature", parts.signature, 97);
    const [scheme, signer] = [signature[0], signature.subarray(65)];
    if (scheme !== 0 || !(await isSignedBy(signer, responseHash, signature.subarray(1, 65)))) throw new AnswerError("signature", "the answer's signature does not hold");
    if (!equal(signer, attested.signingKey)) throw new AnswerError("signer", "another key than the attested one signed the answer");
    if (parts.receipt === undefined || parts.receipt === null) throw new AnswerError("receipt_missing", "the answer has no receipt");
    const receipt = field("receipt", parts.receipt, 64);
    const digest = hash(new Uint8Array([1]), this.requestHash, responseHash, this.clientKey, this.nodeKey, attested.modelManifest, attested.keysetDigest);
    if (!(await isSignedBy(attested.signingKey, concat(utf8("obscura receipt\0"), digest), receipt))) throw new AnswerError("receipt", "the answer's receipt does not hold");
    return body;
  }
}

function field(name: keyof AnswerParts, value: unknown, bytes: number): Bytes {
  if (value === undefined || value === null) throw new AnswerError("malformed", `the answer has no ${name}`);
  const found = unbase64(value, bytes);
  if (found?.length !== bytes) throw new AnswerError(name === "signature" ? "signature" : "malformed", `the answer's ${name} is malformed`);
  return found;
}

/** The next of Padmé's lengths (Nikitin et al., PETS 2019, §4), and 4096 bytes at least. */
export function paddedLength(bytes: number): number {
  const length = Math.max(bytes, FLOOR_BYTES);
  const exponent = Math.floor(Math.log2(length));
  const step = 2 ** (exponent - (Math.floor(Math.log2(exponent)) + 1));
  return Math.ceil(length / step) * step;
}

/** JSON, and the spaces that JSON allows after it. */
function pad(body: Bytes): Bytes {
  const padded = new Uint8Array(paddedLength(body.length)).fill(0x20);
  padded.set(body);
  return padded;
}

/** X25519 (RFC 7748 §5); zeros where the point has low order. */
async function multiply(secret: Bytes, point: Bytes): Promise<Bytes> {
  try {
    if (hasCurve25519) {
      const key = await crypto.subtle.importKey("pkcs8", concat(PKCS8_X25519, secret), "X25519", false, ["deriveBits"]);
      const other = await crypto.subtle.importKey("raw", point, "X25519", false, []);
      return new Uint8Array(await crypto.subtle.deriveBits({ name: "X25519", public: other }, key, 256));
    }
  } catch (error) {
    if ((error as Error).name !== "NotSupportedError") return new Uint8Array(32);
  }
  return sharedSecret(secret, point);
}

/** HKDF-SHA256 with the request's salt and an empty info (RFC 5869), as a key of AES-256-GCM. */
async function derive(shared: Bytes, salt: Bytes): Promise<CryptoKey> {
  const key = await crypto.subtle.importKey("raw", shared, "HKDF", false, ["deriveKey"]);
  const how = { name: "HKDF", hash: "SHA-256", salt, info: new Uint8Array() };
  return crypto.subtle.deriveKey(how, key, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
}

/** Whether a little-endian coordinate is below 2^255 - 19: a key has one name. */
function isReduced(u: Bytes): boolean {
  if (u.length !== 32 || u[31] > 0x7f) return false;
  return u[31] < 0x7f || u.subarray(1, 31).some((byte) => byte !== 0xff) || u[0] < 0xed;
}
