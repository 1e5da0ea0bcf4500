// AMD SEV-SNP reports (AMD 56860), and the certificates behind them: AMD Root Key, SEV signing key, the chip's VCEK
// (AMD 57230).

import { type Bytes, concat, equal, fail, hex, isZero, text, unbase64 } from "./bytes.js";
import { type CheckId, Checks } from "./checks.js";
import { type Json, asString, parseObject } from "./json.js";
import { type Policy, type SnpRelease, type SnpTcb } from "./policy.js";
import { type Report } from "./report.js";
import { type AmdRoot } from "./roots.js";
import { matchRelease } from "./tdx.js";
import { type Certificate, beforePadding, certificate, ecdsa, revocationList, rsaPss } from "./x509.js";

const REPORT_BYTES = 1184;
const SIGNED_BYTES = 0x2a0;
const RSA_PSS = "1.2.840.113549.1.1.10";
const FIRMWARE = ["fmc", "bootloader", "tee", "snp", "microcode"] as const;
const OIDS = { chip: "1.3.6.1.4.1.3704.1.4", bootloader: "1.3.6.1.4.1.3704.1.3.1", tee: "1.3.6.1.4.1.3704.1.3.2", snp: "1.3.6.1.4.1.3704.1.3.3", microcode: "1.3.6.1.4.1.3704.1.3.8", fmc: "1.3.6.1.4.1.3704.1.3.9" };

type SnpRules = NonNullable<Policy["snp"]>;
type Generation = "milan" | "genoa" | "turin";

/** Verifies the report; gives the report data that it signs. */
export async function snpQuote(report: Report, roots: AmdRoot[], now: number, policy: Policy, checks: Checks): Promise<Bytes | undefined> {
  const rules = policy.snp ?? {};
  const bytes = report.quote;
  const layout = readLayout(bytes);
  if (layout === undefined) return void checks.fail("snp.report", "not a report of this form");
  const min = checks.rule("snp.report", rules.min_report_version);
  if (min === undefined) return undefined;
  const version = uint32(bytes, 0);
  checks.expect("snp.report", version >= min, `version ${version}, at least ${min}`);
  if (!signingKey(uint32(bytes, 0x48), checks)) return undefined;

  let chain: Chain;
  try {
    chain = readChain(report.collateral, roots);
  } catch (error) {
    return void checks.fail("snp.chain", (error as Error).message);
  }
  const problem = await chainProblem(chain, now, layout.generation);
  checks.expect("snp.chain", problem === "", problem || chain.root.generation);
  if (problem !== "") return undefined;
  await revocation(chain, now, rules, checks);
  chip(chain.vcek, bytes, layout, checks);
  const signature = concat(scalar(bytes, SIGNED_BYTES), scalar(bytes, SIGNED_BYTES + 72));
  const signed = await ecdsa("P-384", chain.vcek.key, bytes.subarray(0, SIGNED_BYTES), signature);
  checks.expect("snp.signature", signed);
  if (!signed) return undefined;

  const found = [[bytes[0x0a] & 8, "debugging"], [bytes[0x0a] & 4, "a migration agent"], [uint32(bytes, 0x30), "VMPL above 0"], [bytes[0x48] & 2, "a masked chip key"]]
    .filter(([is]) => is !== 0).map(([, name]) => name);
  checks.expect("snp.guest_policy", found.length === 0, found.join(", "));
  checks.permitted("snp.smt", rules.smt, (bytes[0x40] & 1) !== 0);
  firmware(layout, chain.root.generation, rules, checks);
  release(bytes, rules, checks);
  const id = hex(bytes.subarray(0x1a0, 0x1e0));
  checks.oneOf("snp.hardware", rules.hardware, id, `chip ${id}`);
  return bytes.subarray(0x50, 0x90);
}

/** What a version and a processor make of the bytes. */
interface Layout {
  /** As the report says; version 2 does not say. */
  generation: Generation | undefined;
  tcb: (at: number) => Required<SnpTcb>;
  hasFmc: boolean;
}

/** Reserved bytes are zero: nothing that is signed goes unread. */
function readLayout(bytes: Bytes): Layout | undefined {
  if (beforePadding(bytes, REPORT_BYTES) === undefined) return undefined;
  const version = uint32(bytes, 0);
  if (version < 2) return undefined;
  const chip = bytes.subarray(0x1a0, 0x1e0);
  const says = version === 2 ? undefined : generation(bytes[0x188], bytes[0x189]);
  // A later processor's levels lie as Turin's do; its chain is none of those that are pinned.
  if (version > 2 && says === undefined) return undefined;
  if (version === 2 && isZero(chip)) return undefined;
  const hasFmc = version === 2 ? isZero(chip.subarray(8)) : says === "turin" || says === "venice";
  const reserved: [number, number][] = [
    [0x4c, 0x50], version === 2 ? [0x188, 0x1a0] : [0x18b, 0x1a0], [0x1eb, 0x1ec], [0x1ef, 0x1f0],
    version < 5 ? [0x1f8, 0x2a0] : [0x208, 0x2a0], [SIGNED_BYTES + 48, SIGNED_BYTES + 72], [SIGNED_BYTES + 120, REPORT_BYTES],
  ];
  const tcbReserved = hasFmc ? [4, 7] : [2, 6];
  for (const at of [0x38, 0x180, 0x1e0, 0x1f0]) reserved.push([at + tcbReserved[0], at + tcbReserved[1]]);
  if (!reserved.every(([from, to]) => isZero(bytes.subarray(from, to)))) return undefined;
  const tcb = (at: number): Required<SnpTcb> =>
    hasFmc
      ? { fmc: bytes[at], bootloader: bytes[at + 1], tee: bytes[at + 2], snp: bytes[at + 3], microcode: bytes[at + 7] }
      : { fmc: 0, bootloader: bytes[at], tee: bytes[at + 1], snp: bytes[at + 6], microcode: bytes[at + 7] };
  return { generation: says as Generation | undefined, tcb, hasFmc };
}

/** Family and model, as CPUID tells them. */
function generation(family: number, model: number): Generation | "venice" | undefined {
  const within = (...ranges: [number, number][]): boolean => ranges.some(([from, to]) => from <= model && model <= to);
  if (family === 0x19) return within([0, 0x0f]) ? "milan" : within([0x10, 0x1f], [0xa0, 0xaf]) ? "genoa" : undefined;
  if (family !== 0x1a) return undefined;
  return within([0, 0x11]) ? "turin" : within([0x50, 0x57], [0x90, 0xaf], [0xc0, 0xc7]) ? "venice" : undefined;
}

/** A VLEK is a key of a cloud's, not of a chip: it is refused by its name, and its chain not followed. */
function signingKey(keyInfo: number, checks: Checks): boolean {
  const kind = (keyInfo >>> 2) & 7;
  if (kind === 0) checks.pass("snp.signing_key", "VCEK");
  else if (kind === 1) checks.fail("snp.signing_key", "a VLEK signed the report: a cloud's key, which this verifier does not support");
  else checks.fail("snp.signing_key", kind === 7 ? "the report is not signed" : "a key of a kind that is not known signed the report");
  return kind === 0;
}

interface Chain {
  root: AmdRoot;
  vcek: Certificate;
  crl: Bytes | undefined;
}

/** The chain from the chip's certificate to the pinned signing key that it names. */
function readChain(collateral: Bytes, roots: AmdRoot[]): Chain {
  const [der, crl] = attempt(() => {
    const json = parseObject(text(collateral), ["vcek", "crl"]);
    const read = (value: Json, max: number): Bytes => unbase64(asString(value), max) ?? fail("not base64");
    return [read(json.vcek, 16 * 1024), (json.crl ?? undefined) === undefined ? undefined : read(json.crl, 128 * 1024)] as const;
  }, "the collateral is not the JSON object it should be");
  const vcek = attempt(() => certificate(der), "the chip's certificate cannot be read");
  const root = roots.find(({ ask }) => ask.subject === vcek.issuer);
  return { root: root ?? fail("the chip's certificate is not from a signing key of AMD that is pinned here"), vcek, crl };
}

async function chainProblem({ root: { generation, ark, ask }, vcek }: Chain, now: number, says: string | undefined): Promise<string> {
  if (vcek.algorithm !== RSA_PSS || !(await rsaPss(ask.spki, vcek))) return "a signature does not hold";
  if (![ark, ask, vcek].every(({ from, until }) => from <= now && now <= until)) return "a certificate is not valid at this time";
  return says === undefined || says === generation ? "" : "the certificate is of another generation of processors";
}

/** AMD's root signs the list of what it has revoked. Old firmware is what the policy's floor keeps out. */
async function revocation({ root: { ark, ask }, crl }: Chain, now: number, rules: SnpRules, checks: Checks): Promise<void> {
  const need = checks.rule("snp.crl", rules.crl);
  if (need === undefined) return;
  if (crl === undefined) {
    if (need === "required") return checks.fail("snp.crl", "the revocation list is missing");
    return checks.skip("snp.crl", "no revocation list came along; the policy takes that");
  }
  try {
    const list = attempt(() => revocationList(crl), "the revocation list cannot be read");
    if (list.issuer !== ark.subject || !(await rsaPss(ark.spki, list))) fail("the revocation list is not signed by AMD's root");
    if (now < list.from || now >= list.until) fail("the revocation list is not of this time");
    if (list.serials.has(ask.serial)) fail("AMD has revoked its signing key");
    checks.pass("snp.crl");
  } catch (error) {
    checks.fail("snp.crl", (error as Error).message);
  }
}

/** The certificate is of the chip and of the firmware that the report names. */
function chip(vcek: Certificate, bytes: Bytes, { tcb, hasFmc }: Layout, checks: Checks): void {
  const id = vcek.extensions.get(OIDS.chip);
  const reported = bytes.subarray(0x1a0, 0x1e0);
  // Turin's ids are 8 bytes, padded with zeros in reports; those before are 64. All zeros is no chip's.
  const isChip = id !== undefined && (id.length === 8 || id.length === 64) && !isZero(reported) &&
    equal(id, reported.subarray(0, id.length)) && isZero(reported.subarray(id.length));
  const versions = tcb(0x180);
  /** An INTEGER of one byte. */
  const says = (name: keyof SnpTcb): boolean =>
    hex(vcek.extensions.get(OIDS[name]) ?? new Uint8Array()) === (versions[name] < 0x80 ? "0201" : "020200") + hex(Uint8Array.of(versions[name]));
  const isFirmware = FIRMWARE.every((name) => (name === "fmc" && !hasFmc ? !vcek.extensions.has(OIDS.fmc) : says(name)));
  const problem = !isChip ? "the certificate is of another chip" : !isFirmware ? "the certificate is of another version of the firmware" : "";
  checks.expect("snp.chip", problem === "", problem);
}

/** Reported: what the key vouches for. Committed: what cannot be rolled back. Launch: what measured the guest. */
export function firmware({ tcb, hasFmc }: Pick<Layout, "tcb" | "hasFmc">, generation: string, rules: SnpRules, checks: Checks): void {
  const floor = checks.rule("snp.tcb", rules.min_tcb?.[generation as Generation]);
  if (floor === undefined) return;
  // Where reports have an FMC, a floor that names none trusts none.
  const isNamed = floor.fmc !== undefined || !hasFmc;
  const holds = isNamed && [0x180, 0x1e0, 0x1f0].every((at) => FIRMWARE.every((name) => tcb(at)[name] >= (floor[name] ?? 0)));
  const { fmc, bootloader, tee, snp, microcode } = tcb(0x180);
  const first = !hasFmc ? "" : isNamed ? `fmc ${fmc}, ` : `fmc ${fmc}, for which the policy has no rule, `;
  checks.expect("snp.tcb", holds, `${generation}: ${first}bootloader ${bootloader}, tee ${tee}, snp ${snp}, microcode ${microcode}`);
}

/** The measurement says which release it is; the release says the rest. */
function release(bytes: Bytes, rules: SnpRules, checks: Checks): void {
  const at = (from: number, length: number): string => hex(bytes.subarray(from, from + length));
  const settings: [CheckId, keyof SnpRelease, string][] = [
    ["snp.host_data", "host_data", at(0xc0, 32)], ["snp.family_id", "family_id", at(0x10, 16)], ["snp.image_id", "image_id", at(0x20, 16)],
    ["snp.id_key_digest", "id_key_digest", at(0xe0, 48)], ["snp.author_key_digest", "author_key_digest", at(0x110, 48)],
  ];
  matchRelease("snp.release", rules.releases, `measurement ${at(0x90, 48)}`, settings, (release) => release.measurement === at(0x90, 48), checks);
}

const uint32 = (bytes: Bytes, at: number): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

/** A number of 48 bytes, little-endian, as WebCrypto takes it. */
const scalar = (bytes: Bytes, at: number): Bytes => bytes.slice(at, at + 48).reverse();

function attempt<T>(read: () => T, message: string): T {
  try {
    return read();
  } catch {
    return fail(message);
  }
}
