// JSON as a careful verifier reads it: no name twice, whole numbers exactly, no text that is no text.
// JSON.parse lets the last of two equal names win, where another reader lets the first.

export type Json = null | boolean | number | bigint | string | NotWhole | Json[] | JsonObject;
export interface JsonObject {
  [name: string]: Json;
}

/** A number with a fraction or an exponent: nothing that is looked at here is one. */
export class NotWhole {
  constructor(readonly digits: string) {}
}

const MAX_DEPTH = 127;
const TOKEN = /[ \t\n\r]*(?:([[\]{},:])|("[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\u0000-\u001f]*)*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)|(true|false|null))/y;

/** Reads one JSON value with nothing but white space around; throws where it is none. */
export function parse(source: string): Json {
  TOKEN.lastIndex = 0;
  const next = (): RegExpExecArray => {
    const token = TOKEN.exec(source);
    if (token === null) throw new Error("not JSON");
    return token;
  };
  const value = (token: RegExpExecArray, depth: number): Json => {
    const [, mark, string, number, word] = token;
    if (string !== undefined) return unquote(string);
    if (number !== undefined) return whole(number);
    if (word !== undefined) return word === "null" ? null : word === "true";
    if (depth > MAX_DEPTH) throw new Error("JSON that is too deep");
    if (mark === "[") return list(depth);
    if (mark === "{") return object(depth);
    throw new Error("not JSON");
  };
  const list = (depth: number): Json[] => {
    const items: Json[] = [];
    for (let token = next(); ; token = next()) {
      if (token[1] === "]" && items.length === 0) return items;
      items.push(value(token, depth + 1));
      const after = next()[1];
      if (after === "]") return items;
      if (after !== ",") throw new Error("not JSON");
    }
  };
  const object = (depth: number): JsonObject => {
    const fields: JsonObject = Object.create(null) as JsonObject;
    let empty = true;
    for (let token = next(); ; token = next()) {
      if (token[1] === "}" && empty) return fields;
      if (token[2] === undefined || next()[1] !== ":") throw new Error("not JSON");
      const name = unquote(token[2]);
      if (name in fields) throw new Error("a name stands twice");
      fields[name] = value(next(), depth + 1);
      empty = false;
      const after = next()[1];
      if (after === "}") return fields;
      if (after !== ",") throw new Error("not JSON");
    }
  };
  const parsed = value(next(), 0);
  if (!/^[ \t\n\r]*$/.test(source.slice(TOKEN.lastIndex))) throw new Error("more than JSON");
  return parsed;
}

/** The same of an object whose names are among these; throws on any other. */
export function parseObject(source: string | undefined, names?: readonly string[]): JsonObject {
  if (source === undefined) throw new Error("not text");
  return asObject(parse(source), names);
}

export function asObject(value: Json | undefined, names?: readonly string[]): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof NotWhole) throw new Error("not an object");
  if (names !== undefined) {
    for (const name of Object.keys(value)) if (!names.includes(name)) throw new Error("an unknown name");
  }
  return value;
}

export function asString(value: Json | undefined): string {
  if (typeof value !== "string") throw new Error("not a string");
  return value;
}

export function asList(value: Json | undefined): Json[] {
  if (!Array.isArray(value)) throw new Error("not a list");
  return value;
}

/** A whole number of at most so many bits. */
export function asUint(value: Json | undefined, bits: number): bigint {
  if ((typeof value !== "number" && typeof value !== "bigint") || value < 0) throw new Error("not a number");
  const whole = BigInt(value);
  if (whole >> BigInt(bits) !== 0n) throw new Error("a number that is too large");
  return whole;
}

function whole(digits: string): Json {
  // No number here has more digits than 2^64, and to read a million of them takes long.
  if (!/^-?\d{1,20}$/.test(digits) || digits === "-0") return new NotWhole(digits);
  const number = Number(digits);
  return Number.isSafeInteger(number) ? number : BigInt(digits);
}

function unquote(quoted: string): string {
  const string = JSON.parse(quoted) as string;
  if (/\p{Surrogate}/u.test(string)) throw new Error("half a character");
  return string;
}
