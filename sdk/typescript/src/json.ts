// JSON as a careful verifier reads it: no name twice, whole numbers exactly, no half characters, nothing too deep.
// JSON.parse lets the last of two equal names win, where another reader lets the first.

import { fail } from "./bytes.js";

export type Json = null | boolean | number | bigint | string | NotWhole | Json[] | JsonObject;
export interface JsonObject {
  [name: string]: Json;
}

/** A number with a fraction or an exponent: nothing that is looked at here is one. */
export class NotWhole {
  constructor(readonly digits: string) {}
}

const MAX_DEPTH = 128;
/**
 * A string, and the colon that makes it a name; a number; or a bracket. A string that does not end is one too: else each
 * quote in it would be tried as another beginning, and read to the end again.
 */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*("(\s*:)?)?|-?\d[\w.+-]*|[[{]|[\]}]/gs;
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/**
 * Reads one JSON value with nothing but white space around; throws where it is none. The grammar is JSON.parse's, which
 * is given each string behind an `s`, and each number as a string behind an `n`.
 */
export function parse(source: string): Json {
  let [names, depth] = [0, 0];
  const marked = source.replace(TOKEN, (token: string, end?: string, colon?: string) => {
    if (colon !== undefined) names++;
    if (token[0] === '"') return end === undefined ? fail("not JSON") : `"s${token.slice(1)}`;
    if (token === "]" || token === "}") depth--;
    else if (token !== "[" && token !== "{") return NUMBER.test(token) ? `"n${token}"` : fail("not JSON");
    else if (++depth > MAX_DEPTH) fail("JSON that is too deep");
    return token;
  });
  const parsed = JSON.parse(marked, (_, value: string | Json[] | JsonObject | null | boolean): Json => {
    if (typeof value === "string") return value[0] === "n" ? whole(value.slice(1)) : wellFormed(value.slice(1));
    if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
    const fields = Object.entries(value);
    names -= fields.length;
    return Object.fromEntries(fields.map(([name, field]) => [wellFormed(name.slice(1)), field]));
  }) as Json;
  return names === 0 ? parsed : fail("a name stands twice");
}

/** The same of an object whose names are among these; throws on any other. */
export function parseObject(source: string | undefined, names?: readonly string[]): JsonObject {
  return asObject(parse(source ?? fail("not text")), names);
}

export function asObject(value: Json | undefined, names?: readonly string[]): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof NotWhole) fail("not an object");
  if (names !== undefined && !Object.keys(value).every((name) => names.includes(name))) fail("an unknown name");
  return value;
}

export const asString = (value: Json | undefined): string => (typeof value === "string" ? value : fail("not a string"));

export const asList = (value: Json | undefined): Json[] => (Array.isArray(value) ? value : fail("not a list"));

/** A whole number of at most so many bits. */
export function asUint(value: Json | undefined, bits: number): bigint {
  if ((typeof value !== "number" && typeof value !== "bigint") || value < 0) fail("not a number");
  return BigInt(value) >> BigInt(bits) === 0n ? BigInt(value) : fail("a number that is too large");
}

function whole(digits: string): Json {
  // No number here has more digits than 2^64, and to read a million of them takes long.
  if (!/^-?\d{1,20}$/.test(digits) || digits === "-0") return new NotWhole(digits);
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : BigInt(digits);
}

const wellFormed = (text: string): string => (/\p{Surrogate}/u.test(text) ? fail("half a character") : text);
