// NVIDIA GPUs in confidential-computing mode: SPDM 1.1 measurements (DMTF DSP0274), and the chain to NVIDIA's root.
// Reference measurements (RIM) and revocation (OCSP) are not appraised, and never said to pass.

import { type Bytes, Reader, concat, equal, fail, hex, text, unbase64 } from "./bytes.js";
import { type CheckId, Checks } from "./checks.js";
import { asList, asObject, asString, parseObject } from "./json.js";
import { type Policy } from "./policy.js";
import { type Report, gpuNonce } from "./report.js";
import { type TrustAnchor } from "./roots.js";
import { type Certificate, beforePadding, certificate, ecdsa, ecdsaDer, mayIssue, strictPemChain } from "./x509.js";

const MAX_GPUS = 16;
const MAX_CERTIFICATES = 8;
const ECDSA_SHA384 = "1.2.840.10045.4.3.3";
/** TCG DICE TcbInfo, which holds the firmware's id. */
const DICE_TCB_INFO = ["2.23.133.5.4.1", "2.23.133.5.4.1.1"];
const FIELDS = { driver: 3, vbios: 6, firmware: 20 };

interface Gpu {
  certificates: Bytes;
  nonce: Bytes;
  blocks: number;
  opaque: Map<number, Bytes>;
  signed: Bytes;
  signature: Bytes;
}

export async function gpuDevices(report: Report, root: Bytes | undefined, nvidia: TrustAnchor, now: number, policy: Policy, checks: Checks): Promise<void> {
  const rules = policy.gpu ?? {};
  const need = checks.rule("gpu.evidence", rules.evidence);
  if (need === undefined) return;
  if (report.device_evidence.length === 0) return need === "required" ? checks.fail("gpu.evidence", "the node sent none") : checks.skip("gpu.evidence", "the node sent none");
  let gpus: Gpu[];
  try {
    gpus = read(report.device_evidence);
  } catch {
    return checks.fail("gpu.evidence", "not the evidence of one or more GPUs");
  }
  checks.pass("gpu.evidence", describe(gpus));
  const expected = root && (await gpuNonce(report, root));
  each("gpu.nonce", gpus.map((gpu) => expected !== undefined && equal(gpu.nonce, expected)), checks);
  await signatures(gpus, nvidia, now, checks);
  if (checks.rule("gpu.reference", rules.reference_measurements)) checks.skip("gpu.reference", "not appraised");
  if (checks.rule("gpu.revocation", rules.revocation)) checks.skip("gpu.revocation", "not appraised");
  checks.info("gpu.locality", "that these GPUs are attached to this very machine is not shown");
}

async function signatures(gpus: Gpu[], nvidia: TrustAnchor, now: number, checks: Checks): Promise<void> {
  const leaves: Certificate[] = [];
  for (const [index, gpu] of gpus.entries()) {
    try {
      leaves.push(await verifyChain(strictPemChain(gpu.certificates), nvidia, now));
    } catch (error) {
      return checks.fail("gpu.chain", `GPU ${index}: ${(error as Error).message}`);
    }
  }
  checks.pass("gpu.chain");
  // One GPU that is asked twice is one GPU: its key tells.
  const keys = leaves.map((leaf) => hex(leaf.key));
  const again = keys.flatMap((key, index) => (keys.indexOf(key) < index ? [`GPU ${index} is one of those before it`] : []));
  checks.expect("gpu.distinct", again.length === 0, again.join(", ") || `${keys.length} keys`);
  each("gpu.firmware", gpus.map((gpu, index) => isFirmware(leaves[index], gpu.opaque.get(FIELDS.firmware))), checks);
  const signed = await Promise.all(gpus.map((gpu, index) => ecdsa("P-384", leaves[index].key, gpu.signed, gpu.signature)));
  each("gpu.signature", signed, checks);
}

/** The key is derived from the firmware: its certificate names the digest. Messages of older firmware do not. */
function isFirmware(leaf: Certificate, id: Bytes | undefined): boolean {
  if (id === undefined) return true;
  // An OCTET STRING of 48 bytes.
  const octets = hex(concat(new Uint8Array([0x04, 48]), id));
  return DICE_TCB_INFO.some((oid) => {
    const at = hex(leaf.extensions.get(oid) ?? new Uint8Array()).indexOf(octets);
    return at >= 0 && at % 2 === 0;
  });
}

/** P-384 from a leaf, which comes first, to the pinned root, which may be left out. */
async function verifyChain(ders: Bytes[], root: TrustAnchor, now: number): Promise<Certificate> {
  const chain = ders.map(certificate);
  const length = chain.length + (chain.at(-1)?.subject === root.subject ? 0 : 1);
  if (length < 2 || length > MAX_CERTIFICATES) fail("too few certificates, or too many");
  if ([...chain, root].some(({ from, until }) => now < from || now > until)) fail("a certificate is not valid at this time");
  for (const [depth, one] of chain.entries()) {
    const issuer = chain[depth + 1] ?? root;
    if (depth > 0 && !mayIssue(one, depth)) fail(`certificate ${depth} may not issue others`);
    if (one.issuer !== issuer.subject) fail(`certificate ${depth} is not from the one above it`);
    if (one.algorithm !== ECDSA_SHA384 || !(await ecdsaDer("P-384", issuer.key, one))) fail(`the signature of certificate ${depth} does not hold`);
  }
  return chain[0];
}

function read(json: Bytes): Gpu[] {
  const gpus = asList(parseObject(text(json), ["gpus"]).gpus);
  if (gpus.length < 1 || gpus.length > MAX_GPUS) fail("no GPUs, or too many");
  return gpus.map((gpu) => {
    const fields = asObject(gpu, ["report", "certificates"]);
    const bytes = (name: string, max: number): Bytes => unbase64(asString(fields[name]), max) ?? fail("not base64");
    return { ...measurements(bytes("report", 8 * 1024)), certificates: bytes("certificates", 16 * 1024) };
  });
}

/** A request of 37 bytes and its response; the signature is over both, without itself. */
function measurements(message: Bytes): Omit<Gpu, "certificates"> {
  const reader = new Reader(message);
  const request = reader.take(37);
  const head = reader.take(8);
  const record = new Reader(reader.take(head[5] + 256 * head[6] + 65536 * head[7]));
  if (request[0] !== 0x11 || request[1] !== 0xe0 || head[0] !== 0x11 || head[1] !== 0x60) fail("not measurements");
  let blocks = 0;
  for (; record.at < record.bytes.length; blocks++) record.take(2), record.take(record.uint(2));
  if (blocks !== head[4]) fail("not as many measurements as it says");
  reader.take(32);
  const fields = new Reader(reader.take(reader.uint(2)));
  const opaque = new Map<number, Bytes>();
  while (fields.at < fields.bytes.length) {
    const kind = fields.uint(2);
    if (opaque.has(kind) && Object.values(FIELDS).includes(kind)) fail("a field that stands twice");
    opaque.set(kind, fields.take(fields.uint(2)));
  }
  const unsigned = reader.at;
  const signature = beforePadding(reader.rest(), 96);
  const firmware = opaque.get(FIELDS.firmware);
  if (signature === undefined || (firmware !== undefined && firmware.length !== 48)) return fail("not measurements");
  return { nonce: request.subarray(4, 36), blocks, opaque, signed: message.subarray(0, unsigned), signature };
}

function each(id: CheckId, holds: boolean[], checks: Checks): void {
  const failing = holds.flatMap((holds, index) => (holds ? [] : [`GPU ${index}`]));
  checks.expect(id, failing.length === 0, failing.join(", "));
}

function describe(gpus: Gpu[]): string {
  const ascii = (bytes: Bytes = new Uint8Array()): string => String.fromCharCode(...bytes);
  const versions = gpus.map(({ opaque, blocks }) => `driver ${ascii(opaque.get(FIELDS.driver))}, VBIOS ${hex(opaque.get(FIELDS.vbios) ?? new Uint8Array())}, ${blocks} measurements`);
  return `${gpus.length} GPU(s): ${[...new Set(versions)].sort().join("; ")}`;
}
