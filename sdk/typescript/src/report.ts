// A report as it travels: bounded, exact, and of a known format. Nothing in it is verified.

import { type Bytes, text, unbase64, unhex, utf8 } from "./bytes.js";
import { sha, sha256 } from "./crypto.js";
import { type Json, asList, asObject, asString, asUint, parseObject } from "./json.js";

export type Platform = "tdx" | "snp" | "simulated";

export const MAX_REPORT_BYTES = 2 * 1024 * 1024;
const FORMAT = "obscura/attestation/v2";
const BINDING = "obscura/report-data/v2";
const MAX_DEPTH = 16;
const SECTIONS = {
  keyset: 4 * 1024, possession: 64, model_manifest: 256 * 1024, device_evidence: 512 * 1024,
  event_log: 64 * 1024, quote: 32 * 1024, collateral: 256 * 1024,
};

export interface NoncePath {
  blind: Bytes;
  index: number;
  siblings: Bytes[];
}

export type Report = Record<keyof typeof SECTIONS, Bytes> & { platform: Platform; noncePath: NoncePath };

/** Why a report cannot be read: of a kind that may be good, or no report. */
export class UnreadReport extends Error {
  constructor(readonly verdict: "unsupported" | "malformed", message: string) {
    super(message);
  }
}

export function parseReport(json: Uint8Array): Report {
  if (json.length > MAX_REPORT_BYTES) throw new UnreadReport("malformed", `the report is longer than ${MAX_REPORT_BYTES} bytes`);
  const fields = attempt("the report is not the JSON object it should be", () => {
    const fields = parseObject(text(json));
    asString(fields.format), asString(fields.platform), asString(fields.binding ?? BINDING);
    return fields;
  });
  if (fields.format !== FORMAT || (fields.binding ?? BINDING) !== BINDING) throw new UnreadReport("unsupported", "the report is of a format this verifier does not know");
  const { platform } = fields;
  if (platform !== "tdx" && platform !== "snp" && platform !== "simulated") throw new UnreadReport("unsupported", "the report is of a platform this verifier does not know");
  attempt("the report is not the JSON object it should be", () => {
    asObject(fields, ["format", "binding", "platform", "nonce", "nonce_path", ...Object.keys(SECTIONS)]);
    asString(fields.binding);
    for (const name of Object.keys(SECTIONS)) asString(fields[name]);
    if (fields.nonce !== undefined && fields.nonce !== null) asString(fields.nonce);
  });
  // The node's word, for a reader's convenience: a verifier compares with the nonce it sent.
  if (typeof fields.nonce === "string" && !isNonce(fields.nonce)) malformed("nonce");
  const sections = Object.entries(SECTIONS).map(([name, max]) => {
    const bytes = unbase64(fields[name], max);
    if (bytes === undefined || (name === "possession" && bytes.length !== max)) malformed(name);
    return [name, bytes];
  });
  return { ...(Object.fromEntries(sections) as Record<keyof typeof SECTIONS, Bytes>), platform, noncePath: noncePath(fields.nonce_path) };
}

const isNonce = (digits: string): boolean => unhex(digits, 32)?.some((byte) => byte !== 0) ?? false;

function noncePath(json: Json | undefined): NoncePath {
  const [blind, index, siblings] = attempt("the report is not the JSON object it should be", () => {
    const path = asObject(json, ["blind", "index", "siblings"]);
    return [asString(path.blind), Number(asUint(path.index, 32)), asList(path.siblings).map(asString)] as const;
  });
  const nodes = siblings.map((sibling) => unhex(sibling, 32) ?? malformed("nonce_path"));
  if (nodes.length > MAX_DEPTH) malformed("nonce_path");
  return { blind: unhex(blind, 32) ?? malformed("nonce_path"), index, siblings: nodes };
}

function malformed(name: string): never {
  throw new UnreadReport("malformed", `\`${name}\` is malformed or too long`);
}

function attempt<T>(message: string, read: () => T): T {
  try {
    return read();
  } catch {
    throw new UnreadReport("malformed", message);
  }
}

/** The root that a path leads a nonce to; nothing where its place is outside of the tree. */
export async function nonceRoot({ blind, index, siblings }: NoncePath, nonce: Bytes): Promise<Bytes | undefined> {
  if (index >= 2 ** siblings.length) return undefined;
  let node = await sha256(new Uint8Array([0]), blind, nonce);
  for (const [height, sibling] of siblings.entries()) {
    const pair = (index >>> height) & 1 ? [sibling, node] : [node, sibling];
    node = await sha256(new Uint8Array([1]), ...pair);
  }
  return node;
}

/** The 64 bytes that the quote must hold. */
export async function reportData(report: Report, root: Bytes): Promise<Bytes> {
  const digests = [report.keyset, report.model_manifest, report.device_evidence].map((section) => sha256(section));
  return sha("SHA-512", utf8(`${BINDING}\0`), root, ...(await Promise.all(digests)));
}

/** The 32 bytes that each GPU was challenged with. */
export const gpuNonce = async (report: Report, root: Bytes): Promise<Bytes> =>
  sha256(utf8("obscura/gpu-nonce/v2\0"), root, await sha256(report.keyset));
