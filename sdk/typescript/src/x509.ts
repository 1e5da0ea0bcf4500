// Certificates and revocation lists (RFC 5280), and signatures by the keys they name.

import { type Bytes, concat, equal, fail, hex, text, unbase64 } from "./bytes.js";
import { type Der, SEQUENCE, bits, children, expect, integer, objectId, octets, one, sequence, small, time } from "./der.js";
import { type TrustAnchor } from "./roots.js";

const ECDSA_SHA256 = "1.2.840.10045.4.3.2";
const EXTENSIONS = { keyUsage: "2.5.29.15", constraints: "2.5.29.19", purposes: "2.5.29.37" };
/** The critical extensions that are read here, or say nothing that matters. */
const KNOWN = new Set([EXTENSIONS.keyUsage, EXTENSIONS.constraints, EXTENSIONS.purposes, "2.5.29.17", "2.5.29.31"]);
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const MAX_INTERMEDIATES = 4;
const CERT_SIGN = 5;
const CRL_SIGN = 6;

/** What is signed, with its signature. */
interface Signed {
  body: Bytes;
  signature: Bytes;
}

/** A certificate that is read; nothing of it is verified. */
export interface Certificate extends Signed {
  /** Of the signature, by its object id. */
  algorithm: string;
  serial: string;
  /** Names, byte for byte, in hex. */
  issuer: string;
  subject: string;
  from: number;
  until: number;
  /** SubjectPublicKeyInfo. */
  spki: Bytes;
  /** The public key's bits: of ECDSA, the point. */
  key: Bytes;
  extensions: Map<string, Bytes>;
}

/** Reads a certificate; throws where it is none, or demands what is not understood. */
export function certificate(der: Bytes): Certificate {
  const { body, algorithm, signature, fields } = signed(der);
  if (fields[0]?.tag !== 0xa0 || small(one(fields[0].value)) !== 2) fail("not a certificate of version 3");
  const [, serial, inner, issuer, validity, subject, spki, ...rest] = fields;
  if (!equal(expect(inner, SEQUENCE).raw, algorithm.raw)) fail("two signature algorithms");
  const [from, until, more] = sequence(validity);
  const [keyAlgorithm, key] = sequence(spki);
  expect(keyAlgorithm, SEQUENCE);
  if (rest.length > 1 || more !== undefined) fail("an unknown field");
  return {
    body, signature, algorithm: objectId(children(algorithm)[0]), serial: hex(expect(serial, 0x02).value),
    issuer: hex(expect(issuer, SEQUENCE).raw), subject: hex(expect(subject, SEQUENCE).raw),
    from: time(from), until: time(until), spki: spki.raw, key: bits(key),
    extensions: rest.length === 0 ? new Map() : extensions(expect(rest[0], 0xa3)),
  };
}

/** A revocation list that is read. */
export interface RevocationList extends Signed {
  issuer: string;
  from: number;
  /** When the next one is due. */
  until: number;
  serials: Set<string>;
}

export function revocationList(der: Bytes): RevocationList {
  const { body, algorithm, signature, fields } = signed(der);
  if (fields[0] === undefined || small(fields[0]) !== 1) fail("not a revocation list of version 2");
  const [, inner, issuer, from, until, ...rest] = fields;
  if (!equal(expect(inner, SEQUENCE).raw, algorithm.raw)) fail("two signature algorithms");
  const entries = rest[0]?.tag === SEQUENCE ? sequence(rest.shift()) : [];
  if (rest.length > 1) fail("an unknown field");
  // Delta lists and lists of a part say so in critical extensions.
  if (rest.length === 1) extensions(expect(rest[0], 0xa0));
  const serials = entries.map((entry) => hex(integer(sequence(entry)[0])));
  return { body, signature, issuer: hex(expect(issuer, SEQUENCE).raw), from: time(from), until: time(until), serials: new Set(serials) };
}

/** The way from a leaf to the root, root excluded, as webpki walks it: P-256 throughout, no certificate revoked. */
export async function path(pem: string, root: TrustAnchor, lists: RevocationList[], now: number): Promise<Certificate[]> {
  const [first, ...others] = pemChain(pem);
  if (others.length > MAX_INTERMEDIATES) fail("too many certificates");
  const leaf = certificate(first ?? fail("there is no certificate"));
  // What cannot be read leads nowhere. That does not matter where the way does not pass there: chains bring a copy
  // of the root, which is pinned.
  const candidates = others.flatMap((der) => {
    try {
      return [certificate(der)];
    } catch {
      return [];
    }
  });
  const found = [leaf];
  for (let head = leaf; head.issuer !== root.subject; found.push(head)) {
    head = candidates.find((one) => one.subject === head.issuer && !found.includes(one)) ?? fail("the chain does not lead to the root");
  }
  for (const [depth, one] of found.entries()) {
    const issuer = found[depth + 1] ?? root;
    if (now < one.from || now > one.until) fail(`certificate ${depth} is not valid at this time`);
    if (depth === 0 ? constraints(one).authority : !mayIssue(one, depth)) fail(`certificate ${depth} may not stand there`);
    if (!servesPurpose(one)) fail(`certificate ${depth} is for another purpose`);
    if (one.algorithm !== ECDSA_SHA256 || !(await ecdsaDer("P-256", issuer.key, one))) fail(`the signature of certificate ${depth} does not hold`);
    const list = lists.find((list) => list.issuer === one.issuer) ?? fail(`there is no revocation list for certificate ${depth}`);
    await checkRevocation(one, list, issuer, now);
    if (depth > 0 && !allows(one, CRL_SIGN)) fail(`certificate ${depth} may not sign revocation lists`);
  }
  return found;
}

/** That its issuer's list, which holds now, does not name a certificate. */
export async function checkRevocation(one: TrustAnchor, list: RevocationList, issuer: TrustAnchor, now: number): Promise<void> {
  if (list.issuer !== issuer.subject || !(await ecdsaDer("P-256", issuer.key, list))) fail("a revocation list is not signed by its issuer");
  if (now >= list.until) fail("a revocation list has ended");
  if (list.serials.has(one.serial)) fail("a certificate is revoked");
}

/** Whether a certificate may issue others, so far above the leaf. The length counts authorities between. */
export function mayIssue(issuer: Certificate, depth: number): boolean {
  const found = constraints(issuer);
  return found.authority && (found.length === undefined || depth - 1 <= found.length) && allows(issuer, CERT_SIGN);
}

function constraints({ extensions }: Certificate): { authority: boolean; length?: number } {
  const value = extensions.get(EXTENSIONS.constraints);
  const [first, second] = value === undefined ? [] : sequence(one(value));
  if (first?.tag !== 0x01) return { authority: false };
  return { authority: first.value[0] === 0xff, length: second === undefined ? undefined : small(second) };
}

/** Whether the key usage has this bit; a certificate without key usage is for anything. */
function allows({ extensions }: Certificate, bit: number): boolean {
  const value = extensions.get(EXTENSIONS.keyUsage);
  if (value === undefined) return true;
  const flags = one(value, 0x03).value;
  return ((flags[1 + (bit >> 3)] ?? 0) & (0x80 >> (bit & 7))) !== 0;
}

function servesPurpose({ extensions }: Certificate): boolean {
  const value = extensions.get(EXTENSIONS.purposes);
  return value === undefined || sequence(one(value)).some((purpose) => objectId(purpose) === SERVER_AUTH);
}

/** What certificates and lists have in common (RFC 5280 §4.1, §5.1). */
function signed(der: Bytes): Signed & { algorithm: Der; fields: Der[] } {
  const [body, algorithm, signature, more] = sequence(one(der));
  if (more !== undefined) fail("an unknown field");
  return { body: expect(body, SEQUENCE).raw, algorithm: expect(algorithm, SEQUENCE), signature: bits(signature), fields: children(body) };
}

function extensions(field: Der): Map<string, Bytes> {
  const found = new Map<string, Bytes>();
  for (const entry of sequence(one(field.value))) {
    const parts = sequence(entry);
    const id = objectId(parts[0]);
    const critical = parts.length === 3;
    if (parts.length > 3 || (critical && (parts[1].tag !== 0x01 || parts[1].value.length !== 1))) fail("not an extension");
    if (critical && parts[1].value[0] !== 0 && !KNOWN.has(id)) fail("a critical extension that is not known");
    if (found.has(id)) fail("an extension that stands twice");
    found.set(id, octets(parts.at(-1)));
  }
  return found;
}

/** Certificates of a PEM text, whatever stands between them. */
export function pemChain(pem: string): Bytes[] {
  const found = [...pem.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----/g)];
  if (found.length !== (pem.match(/-----BEGIN /g) ?? []).length) fail("not certificates in PEM");
  return found.map(([, body]) => unbase64(body.replace(/\s/g, ""), 64 * 1024) ?? fail("not certificates in PEM"));
}

/** Bytes without the zeros at their end: drivers pad their buffers with them. */
export function withoutPadding(bytes: Bytes): Bytes {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return bytes.subarray(0, end);
}

/** The first bytes, where nothing but such padding follows them; they may end with zeros of their own. */
export function beforePadding(bytes: Bytes, length: number): Bytes | undefined {
  const alone = bytes.length >= length && withoutPadding(bytes.subarray(length)).length === 0;
  return alone ? bytes.subarray(0, length) : undefined;
}

/** Certificates and nothing else, with white space between and zeros at the end. */
export function strictPemChain(bytes: Bytes): Bytes[] {
  const pem = text(withoutPadding(bytes));
  if (pem === undefined || !/^\s*(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----\s*)*$/.test(pem)) fail("there is more than certificates");
  return pemChain(pem);
}

type Curve = "P-256" | "P-384";
const CURVES = { "P-256": { bytes: 32, hash: "SHA-256" }, "P-384": { bytes: 48, hash: "SHA-384" } } as const;

/** ECDSA with the curve's own hash; the signature is r and s, big-endian. */
export async function ecdsa(curve: Curve, point: Bytes, message: Bytes, signature: Bytes): Promise<boolean> {
  const { bytes, hash } = CURVES[curve];
  // An uncompressed point (SEC 1 §2.3.3): WebCrypto takes others in some runtimes.
  if (point.length !== 1 + 2 * bytes || point[0] !== 4 || signature.length !== 2 * bytes) return false;
  try {
    const key = await crypto.subtle.importKey("raw", point, { name: "ECDSA", namedCurve: curve }, false, ["verify"]);
    return await crypto.subtle.verify({ name: "ECDSA", hash }, key, signature, message);
  } catch {
    return false;
  }
}

/** The same; the signature is Ecdsa-Sig-Value (RFC 3279 §2.2.3). */
export async function ecdsaDer(curve: Curve, point: Bytes, { body, signature }: Signed): Promise<boolean> {
  try {
    const [r, s, more] = sequence(one(signature));
    if (more !== undefined) return false;
    const { bytes } = CURVES[curve];
    const scalar = (value: Der): Bytes => {
      const digits = integer(value);
      const positive = digits[0] === 0 ? digits.subarray(1) : digits;
      if (digits[0] >= 0x80 || positive.length > bytes) fail("not a scalar");
      return concat(new Uint8Array(bytes - positive.length), positive);
    };
    return await ecdsa(curve, point, body, concat(scalar(r), scalar(s)));
  } catch {
    return false;
  }
}

/** RSASSA-PSS with SHA-384 and 48 bytes of salt, as AMD signs. */
export async function rsaPss(spki: Bytes, { body, signature }: Signed): Promise<boolean> {
  try {
    const key = await crypto.subtle.importKey("spki", spki, { name: "RSA-PSS", hash: "SHA-384" }, false, ["verify"]);
    return await crypto.subtle.verify({ name: "RSA-PSS", saltLength: 48 }, key, signature, body);
  } catch {
    return false;
  }
}
