// DER (X.690 §10): definite lengths in their shortest form, and nothing after the end.

import { type Bytes, fail } from "./bytes.js";

export interface Der {
  tag: number;
  /** With tag and length. */
  raw: Bytes;
  value: Bytes;
}

export const SEQUENCE = 0x30;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_ID = 0x06;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;

/** The one value that these bytes are. */
export function one(bytes: Bytes, tag?: number): Der {
  const [value] = read(bytes, 0);
  if (value.raw.length !== bytes.length) fail("bytes after the end of DER");
  return expect(value, tag);
}

/** The values inside of a constructed one. */
export function children(parent: Der): Der[] {
  const found: Der[] = [];
  for (let at = 0; at < parent.value.length; ) {
    const [value, next] = read(parent.value, at);
    found.push(value);
    at = next;
  }
  return found;
}

export function expect(value: Der | undefined, tag: number | undefined): Der {
  if (value === undefined || (tag !== undefined && value.tag !== tag)) fail("not the DER it should be");
  return value;
}

export const sequence = (value: Der | undefined): Der[] => children(expect(value, SEQUENCE));
export const octets = (value: Der | undefined): Bytes => expect(value, OCTET_STRING).value;

/** An integer's bytes, big-endian, as they are written. */
export function integer(value: Der | undefined): Bytes {
  const { value: bytes } = expect(value, INTEGER);
  const [first, second] = bytes;
  if (bytes.length === 0 || (bytes.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)))) {
    fail("an integer that is not in its shortest form");
  }
  return bytes;
}

/** A non-negative integer of one byte. */
export function small(value: Der | undefined): number {
  const bytes = integer(value);
  const digits = bytes.length === 2 && bytes[0] === 0 ? bytes.subarray(1) : bytes;
  if (digits.length !== 1 || bytes[0] >= 0x80) fail("not an integer of one byte");
  return digits[0];
}

/** A bit string of whole bytes. */
export function bits(value: Der | undefined): Bytes {
  const { value: bytes } = expect(value, BIT_STRING);
  if (bytes[0] !== 0) fail("not a bit string of whole bytes");
  return bytes.subarray(1);
}

/** In the usual notation. */
export function objectId(value: Der | undefined): string {
  const { value: bytes } = expect(value, OBJECT_ID);
  const arcs: number[] = [];
  let arc = 0;
  for (const [index, byte] of bytes.entries()) {
    if (arc > 0xffffff) fail("an object id that is too long");
    arc = arc * 128 + (byte & 0x7f);
    if (byte & 0x80) {
      if (index === bytes.length - 1) fail("an object id that ends early");
      continue;
    }
    arcs.push(...(arcs.length === 0 ? [Math.min(2, Math.floor(arc / 40)), arc - 40 * Math.min(2, Math.floor(arc / 40))] : [arc]));
    arc = 0;
  }
  return arcs.join(".");
}

/** Seconds since 1970 (RFC 5280 §4.1.2.5). */
export function time(value: Der | undefined): number {
  const { tag, value: bytes } = expect(value, undefined);
  const text = String.fromCharCode(...bytes);
  const form = tag === UTC_TIME ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : tag === GENERALIZED_TIME ? /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /$^/;
  const found = form.exec(text);
  if (found === null) fail("not a time");
  const [year, month, day, hour, minute, second] = found.slice(1).map(Number);
  const full = tag === UTC_TIME ? year + (year < 50 ? 2000 : 1900) : year;
  const date = new Date(Date.UTC(full, month - 1, day, hour, minute, second));
  // Date.UTC carries the 31st of a short month over into the next.
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) fail("not a time");
  return date.getTime() / 1000;
}

function read(bytes: Bytes, at: number): [Der, number] {
  const tag = bytes[at];
  const short = bytes[at + 1];
  if (short === undefined || (tag & 0x1f) === 0x1f) fail("not DER");
  let start = at + 2;
  let length = short;
  if (short >= 0x80) {
    const count = short - 0x80;
    if (count < 1 || count > 3 || start + count > bytes.length) fail("not DER");
    length = bytes.subarray(start, start + count).reduce((value, byte) => value * 256 + byte, 0);
    start += count;
    if (length < 0x80 || length < 256 ** (count - 1)) fail("a length that is not in its shortest form");
  }
  const end = start + length;
  if (end > bytes.length) fail("DER that ends early");
  return [{ tag, raw: bytes.subarray(at, end), value: bytes.subarray(start, end) }, end];
}
