// Bytes, and the one way in which each text stands for them.

/** Bytes that WebCrypto takes. */
export type Bytes = Uint8Array<ArrayBuffer>;

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** What is read is not what it should be: caught by the check that it belongs to, which says so. */
export function fail(message: string): never {
  throw new Error(message);
}

/** A copy, or the same bytes where they have a buffer of their own kind already. */
export const own = (bytes: Uint8Array): Bytes =>
  bytes.buffer instanceof ArrayBuffer ? (bytes as Bytes) : new Uint8Array(bytes);

export const utf8 = (text: string): Bytes => own(new TextEncoder().encode(text));

/** Text, or nothing where the bytes are no UTF-8. A byte order mark stays. */
export function text(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

export function concat(...parts: Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Whether two byte strings are the same, in time that depends on their lengths alone. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i] ^ b[i];
  return difference === 0;
}

export const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** Lower-case hexadecimal digits. */
export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Reads exactly `length` bytes of lower-case hexadecimal digits; any number where none is given. */
export function unhex(digits: unknown, length?: number): Bytes | undefined {
  if (typeof digits !== "string" || !/^([0-9a-f]{2})*$/.test(digits)) return undefined;
  if (length !== undefined && digits.length !== 2 * length) return undefined;
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** Base64 with padding (RFC 4648 §4). */
export function base64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
}

/** Reads canonical base64 of at most `max` bytes; a longer text is not decoded at all. */
export function unbase64(encoded: unknown, max: number): Bytes | undefined {
  if (typeof encoded !== "string" || encoded.length % 4 !== 0 || encoded.length > Math.ceil(max / 3) * 4) return undefined;
  if (!BASE64.test(encoded)) return undefined;
  const binary = atob(encoded);
  // The bits that padding leaves over must be zero: there is one text for given bytes.
  if (encoded.length > 0 && btoa(binary.slice(-(binary.length % 3 || 3))) !== encoded.slice(-4)) return undefined;
  if (binary.length > max) return undefined;
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** One bounded line of a stranger's text: control, format and unknown characters by their code. */
export function printable(stranger: unknown): string {
  const line = String(stranger)
    .slice(0, 2048)
    .replace(/ +/g, " ")
    .replace(/[\\\p{C}\p{M}\u2028\u2029]|(?! )\p{Z}/gu, (character) =>
      character === "\\" ? "\\\\" : `\\u{${character.codePointAt(0)!.toString(16)}}`);
  return line.length > 512 ? `${line.slice(0, 512)}…` : line;
}

/** Reads fields of fixed lengths one after another; throws where the bytes end early. */
export class Reader {
  #at = 0;
  constructor(readonly bytes: Bytes) {}

  get at(): number {
    return this.#at;
  }

  take(length: number): Bytes {
    if (!(length >= 0) || length > this.bytes.length - this.#at) fail("the bytes end early");
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }

  /** Little-endian, of at most four bytes. */
  uint(length: number): number {
    return this.take(length).reduceRight((value, byte) => value * 256 + byte, 0);
  }

  rest(): Bytes {
    return this.take(this.bytes.length - this.#at);
  }
}
