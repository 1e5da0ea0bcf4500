// Intel's part of a TDX quote (DCAP quoting library API, appendix 3, versions 4 and 5): who signed it, what vouches for
// the platform, and what Intel says of its firmware. The order and the strictness are those of the crate dcap-qvl.

import { type Bytes, Reader, concat, equal, fail, hex, isZero, text, unhex, utf8 } from "./bytes.js";
import { sha256 } from "./crypto.js";
import { type Der, children, expect, objectId, one, sequence } from "./der.js";
import { type JsonObject, asList, asObject, asString, asUint, parseObject } from "./json.js";
import { type TrustAnchor } from "./roots.js";
import { type Certificate, checkRevocation, ecdsa, path, revocationList, withoutPadding } from "./x509.js";

const TDX = 0x81;
const BODY_BYTES: Record<number, number> = { 2: 584, 3: 648, 4: 885 };
const INTEL_QE = "939a7233f79c4ca9940a0db3957f0607";
const SGX = "1.2.840.113741.1.13.1";

/** What is signed of the guest, in its order, with lengths in bytes. */
const TD_REPORT = {
  teeTcbSvn: 16, mrseam: 48, mrsignerseam: 48, seamAttributes: 8, tdAttributes: 8, xfam: 8, mrtd: 48, mrconfigid: 48,
  mrowner: 48, mrownerconfig: 48, rtmr0: 48, rtmr1: 48, rtmr2: 48, rtmr3: 48, reportData: 64,
};
export type TdReport = Record<keyof typeof TD_REPORT, Bytes>;

export interface Claims {
  version: number;
  td: TdReport;
  fmspc: string;
  ppid: Bytes;
  flags: { dynamicPlatform: boolean; cachedKeys: boolean; smt: boolean };
  status: string;
  tcbDate: string;
  advisories: string[];
  evaluation: number;
  /** When the last of the collateral began, and when the first ends. */
  from: number;
  until: number;
}

/** Verifies a quote by its collateral; throws where it does not hold. */
export async function verifyQuote(quoteBytes: Bytes, collateralBytes: Bytes, root: TrustAnchor, now: number): Promise<Claims> {
  const collateral = readCollateral(collateralBytes);
  const quote = readQuote(quoteBytes);
  const lists = [collateral.root_ca_crl, collateral.pck_crl].map((list) => revocationList(anyHex(list)));
  await checkRevocation(root, lists[0], root, now);
  const tcb = await signedJson("tcb_info");
  const qe = await signedJson("qe_identity");
  if (qe.json.id !== "TD_QE" || (qe.json.version !== 2 && qe.json.version !== 3)) fail("not the identity of a TDX quoting enclave");

  const chain = collateral.pck_certificate_chain ?? undefined;
  const pckPath = await path(chain === undefined ? quote.chain() : asString(chain), root, lists, now);
  if (!(await ecdsa("P-256", pckPath[0].key, quote.qeReport, quote.qeSignature))) fail("the chip's key did not sign the quoting enclave's report");
  const vouched = await sha256(quote.key, quote.qeAuthData);
  if (quote.qeAuthData.length !== 32 || !equal(vouched, quote.qeReport.subarray(320, 352))) fail("the quoting enclave does not vouch for the quote's key");
  const qeLevel = appraiseEnclave(quote.qeReport, qe.json);
  if (!(await ecdsa("P-256", concat(new Uint8Array([4]), quote.key), quote.signed, quote.signature))) fail("the quote's signature does not hold");

  const pck = pckExtension(pckPath[0]);
  const levels = platformLevels(tcb.json, quote, pck);
  const [launch, current] = levels.map((level) => converge(level.status, qeLevel.status));
  if (launch === "Revoked" || current === "Revoked") fail("Intel has revoked this platform's firmware");
  checkAttributes(quote);

  const dated = [root, ...lists, ...tcb.dated, ...qe.dated, ...pckPath];
  return {
    version: quote.version, td: quote.td, fmspc: hex(pck.fmspc), ppid: pck.ppid, flags: pck.flags,
    status: current === undefined ? launch : relaunch(launch, current),
    tcbDate: levels[0].date,
    advisories: [...new Set([...levels, qeLevel].flatMap((level) => level.advisories))].sort(),
    evaluation: Math.min(...[tcb, qe].map(({ json }) => uint(json.tcbEvaluationDataNumber, 32))),
    from: Math.max(...dated.map(({ from }) => from)),
    until: Math.min(...dated.map(({ until }) => until)),
  };

  /** A part that Intel signed, by a key that the root itself vouches for; and all whose time bounds it. */
  async function signedJson(name: "tcb_info" | "qe_identity"): Promise<{ json: JsonObject; dated: Pick<Certificate, "from" | "until">[] }> {
    const message = asString(collateral[name]);
    const found = await path(asString(collateral[`${name}_issuer_chain`]), root, lists, now);
    if (found.length !== 1) fail(`the signer of ${name} is not issued by the root itself`);
    if (!(await ecdsa("P-256", found[0].key, utf8(message), anyHex(collateral[`${name}_signature`])))) fail(`the signature of ${name} does not hold`);
    const json = parseObject(message);
    const [from, until] = [rfc3339(json.issueDate), rfc3339(json.nextUpdate)];
    if (now < from || now > until) fail(`${name} is not of this time`);
    return { json, dated: [...found, { from, until }] };
  }
}

function readCollateral(bytes: Bytes): JsonObject {
  try {
    const json = parseObject(text(bytes));
    asString(json.pck_crl_issuer_chain);
    return json;
  } catch {
    return fail("the collateral is not the JSON object it should be");
  }
}

interface Quote {
  version: number; signed: Bytes; signature: Bytes; key: Bytes; qeReport: Bytes; qeSignature: Bytes; qeAuthData: Bytes;
  chain: () => string; td: TdReport;
  /** Of TDX 1.5: the module's present versions, and the service guests that are bound. */
  later?: { teeTcbSvn2: Bytes; mrservicetd: Bytes };
}

/** Every length must fit what it encloses, and only zeros may follow: no signature covers the lengths. */
function readQuote(bytes: Bytes): Quote {
  const reader = new Reader(bytes);
  const [version, keyType, tee] = [reader.uint(2), reader.uint(2), reader.uint(4)];
  reader.take(4);
  const vendor = hex(reader.take(16));
  reader.take(20);
  if ((version !== 4 && version !== 5) || tee !== TDX) fail("not a quote of a TDX guest, version 4 or 5");
  if (keyType !== 2 || vendor !== INTEL_QE) fail("not a quote of Intel's quoting enclave with a P-256 key");
  const type = version === 5 ? reader.uint(2) : 2;
  const bodyBytes = BODY_BYTES[type];
  if (bodyBytes === undefined || (version === 5 && reader.uint(4) !== bodyBytes)) fail("a quote's body of an unknown kind");
  const body = new Reader(reader.take(bodyBytes));
  const td = Object.fromEntries(Object.entries(TD_REPORT).map(([name, length]) => [name, body.take(length)])) as TdReport;
  const later = type === 2 ? undefined : { teeTcbSvn2: body.take(16), mrservicetd: body.take(48) };
  const signed = bytes.subarray(0, reader.at);
  const data = new Reader(reader.take(reader.uint(4)));
  const [signature, key] = [data.take(64), data.take(64)];
  if (data.uint(2) !== 6) fail("certification data of an unknown type");
  const certification = new Reader(data.take(data.uint(4)));
  const [qeReport, qeSignature] = [certification.take(384), certification.take(64)];
  const qeAuthData = certification.take(certification.uint(2));
  const chainType = certification.uint(2);
  const chainBytes = certification.take(certification.uint(4));
  if (certification.rest().length + data.rest().length !== 0) fail("a length that leaves room");
  if (withoutPadding(reader.rest()).length !== 0) fail("bytes follow the quote's end");
  const chain = (): string => {
    if (chainType !== 5) fail("certificates of an unknown form");
    return String.fromCharCode(...chainBytes);
  };
  return { version, signed, signature, key, qeReport, qeSignature, qeAuthData, chain, td, later };
}

/** TDATTRIBUTES: the reserved bits; those of migration and of service guests; and the one that keeps pages with the guest. */
const [RESERVED, FOREIGN, SEPT_VE_DISABLE] = [0x3fffffff_0780ff8en, 0x20020000n, 0x10000000n];

/** Reserved bits, migration, pages that a host may swap, service guests. Debugging has a check of its own. */
function checkAttributes({ td, later }: Quote): void {
  const bits = BigInt(`0x${hex(td.tdAttributes.slice().reverse())}`);
  if (later !== undefined && !isZero(later.mrservicetd)) fail("a service guest is bound");
  if (bits & RESERVED) fail("reserved attributes are set");
  if (bits & FOREIGN) fail("the guest may be migrated, or has service guests");
  if (!(bits & SEPT_VE_DISABLE)) fail("a host may take pages away: SEPT_VE_DISABLE is not set");
}

/** What Intel says of a TDX module; of a quoting enclave besides; and of a platform besides. */
const MODULE_STATUSES = ["UpToDate", "OutOfDate", "Revoked"];
const CONFIGURATION = ["ConfigurationNeeded", "OutOfDateConfigurationNeeded"];
const HARDENING = ["SWHardeningNeeded", "ConfigurationAndSWHardeningNeeded"];

interface Level {
  status: string;
  date: string;
  advisories: string[];
}

/** Judges the report of the quoting enclave (Intel SDM, volume 3D, table 38-21) by what Intel says of it. */
function appraiseEnclave(report: Bytes, identity: JsonObject): Level {
  const uint16 = (at: number): number => report[at] + 256 * report[at + 1];
  const same = (at: number, length: number, expected: string): boolean =>
    isMasked(report.subarray(at, at + length), anyHex(identity[expected], length), anyHex(identity[`${expected}Mask`], length));
  if (!equal(report.subarray(128, 160), anyHex(identity.mrsigner, 32)) || uint16(256) !== uint(identity.isvprodid, 16)) fail("not Intel's quoting enclave");
  if (report[48] & 2) fail("the quoting enclave may be debugged");
  if (!same(16, 4, "miscselect") || !same(48, 16, "attributes")) fail("the quoting enclave has other attributes");
  return firstLevel(identity.tcbLevels, uint16(258), 16, [...MODULE_STATUSES, ...CONFIGURATION]) ?? fail("the quoting enclave is older than every level that Intel lists");
}

const isMasked = (found: Bytes, value: Bytes, mask: Bytes): boolean => found.every((byte, i) => (byte & mask[i]) === (value[i] & mask[i]));

interface Pck {
  ppid: Bytes; fmspc: Bytes; cpuSvn: Bytes; pceSvn: number;
  flags: { dynamicPlatform: boolean; cachedKeys: boolean; smt: boolean };
}

/** What Intel wrote into the chip's certificate. */
function pckExtension(leaf: Certificate): Pck {
  const extension = leaf.extensions.get(SGX) ?? fail("not a chip's certificate");
  const find = (entries: Der[], id: string): Der | undefined => entries.map(sequence).find(([name]) => objectId(name) === `${SGX}.${id}`)?.[1];
  const fields = sequence(one(extension));
  const bytes = (value: Der | undefined, length: number): Bytes => {
    const found = expect(value, undefined).value;
    if (found.length !== length) fail("a field of the chip's certificate is of another length");
    return found;
  };
  const tcb = children(expect(find(fields, "2"), undefined));
  const settings = find(fields, "7");
  const flag = (id: string): boolean => {
    const value = settings && find(children(settings), id);
    return value !== undefined && bytes(value, 1)[0] !== 0;
  };
  const pceSvn = expect(find(tcb, "2.17"), undefined).value;
  if (pceSvn.length < 1 || pceSvn.length > 2) fail("a field of the chip's certificate is of another length");
  expect(find(fields, "3"), undefined), expect(find(fields, "5"), undefined);
  return {
    ppid: expect(find(fields, "1"), undefined).value, fmspc: bytes(find(fields, "4"), 6), cpuSvn: bytes(find(tcb, "2.18"), 16),
    pceSvn: pceSvn.reduce((value, byte) => value * 256 + byte, 0),
    flags: { dynamicPlatform: flag("7.1"), cachedKeys: flag("7.2"), smt: flag("7.3") },
  };
}

/** The level at the guest's launch, and of TDX 1.5 the present one. */
function platformLevels(tcbInfo: JsonObject, { td, later }: Quote, pck: Pck): Level[] {
  if (!equal(anyHex(tcbInfo.fmspc), pck.fmspc)) fail("the TCB info is of another kind of platform");
  if (uint(tcbInfo.version, 8) < 3 || tcbInfo.id !== "TDX") fail("not the TCB info of TDX platforms");
  const levels = asList(tcbInfo.tcbLevels).map((json) => {
    const [fields, tcb] = [asObject(json), asObject(asObject(json).tcb)];
    const svns = (list: "sgxtcbcomponents" | "tdxtcbcomponents"): number[] => {
      const found = asList(tcb[list]).map((component) => uint(asObject(component).svn, 8));
      if (found.length !== 16) fail("a TCB level of other than 16 components");
      return found;
    };
    return { fields, sgx: svns("sgxtcbcomponents"), pceSvn: uint(tcb.pcesvn, 16), tdx: svns("tdxtcbcomponents") };
  });
  // Intel orders them by value, and not as they stand.
  const order = (a: number[], b: number[]): number => b.map((svn, i) => svn - a[i]).find((difference) => difference !== 0) ?? 0;
  levels.sort((a, b) => order(a.sgx, b.sgx) || b.pceSvn - a.pceSvn || order(a.tdx, b.tdx));

  const module = moduleIdentity(tcbInfo, td.teeTcbSvn);
  const appraise = (svn: Bytes): Level => {
    const skip = svn[1] > 0 ? 2 : 0;
    const met = levels.find(({ sgx, pceSvn, tdx }) =>
      sgx.every((needed, i) => pck.cpuSvn[i] >= needed) && pck.pceSvn >= pceSvn && tdx.every((needed, i) => i < skip || svn[i] >= needed));
    if (met === undefined) fail("the platform is older than every level that Intel lists");
    const platform = level(met.fields, [...MODULE_STATUSES, ...CONFIGURATION, ...HARDENING]);
    const identity = moduleIdentity(tcbInfo, svn);
    if (identity === undefined) return platform;
    const moduleLevel = firstLevel(identity.tcbLevels, svn[0], 8, MODULE_STATUSES) ?? fail("the TDX module is older than every level that Intel lists");
    return {
      status: converge(platform.status, moduleLevel.status),
      date: rfc3339(moduleLevel.date) < rfc3339(platform.date) ? moduleLevel.date : platform.date,
      advisories: [...platform.advisories, ...moduleLevel.advisories],
    };
  };
  const found = [appraise(td.teeTcbSvn)];
  const expected = { ...asObject(tcbInfo.tdxModule), ...module };
  const [signer, attributes, mask] = [anyHex(expected.mrsigner, 48), anyHex(expected.attributes, 8), anyHex(expected.attributesMask, 8)];
  if (!equal(td.mrsignerseam, signer)) fail("another signed the TDX module");
  if (!isMasked(td.seamAttributes, attributes, mask) || td.seamAttributes.some((byte, i) => byte & ~mask[i])) fail("the TDX module has other attributes");
  if (later !== undefined) found.push(appraise(later.teeTcbSvn2));
  return found;
}

/** The identity of the module's major version; none for version 0. */
function moduleIdentity(tcbInfo: JsonObject, svn: Bytes): JsonObject | undefined {
  if (svn[1] === 0) return undefined;
  const id = `TDX_${svn[1].toString(16).padStart(2, "0")}`.toLowerCase();
  const found = asList(tcbInfo.tdxModuleIdentities ?? []).map((json) => asObject(json)).find((json) => asString(json.id).toLowerCase() === id);
  return found ?? fail("Intel lists no TDX module of this version");
}

/** The first level, the newest, that a version reaches. */
function firstLevel(levels: JsonObject[string] | undefined, svn: number, bits: number, statuses: string[]): Level | undefined {
  const found = asList(levels).map((json) => asObject(json)).find(({ tcb }) => svn >= uint(asObject(tcb).isvsvn, bits));
  return found && level(found, statuses);
}

function level(json: JsonObject, statuses: string[]): Level {
  const status = asString(json.tcbStatus);
  if (!statuses.includes(status)) fail("a TCB status that is not known");
  rfc3339(json.tcbDate);
  return { status, date: asString(json.tcbDate), advisories: asList(json.advisoryIDs ?? []).map(asString) };
}

/** A platform's status with that of its module or quoting enclave, as Intel's library converges them. */
function converge(platform: string, component: string): string {
  if (component === "Revoked") return component;
  if (component !== "OutOfDate" || platform === "Revoked") return platform;
  return platform.includes("Configuration") ? "OutOfDateConfigurationNeeded" : "OutOfDate";
}

/** Firmware that was renewed under a running guest. None of the two is revoked. */
function relaunch(launch: string, current: string): string {
  if (!launch.startsWith("OutOfDate") || current.startsWith("OutOfDate")) return launch;
  return (launch + current).includes("Configuration") ? "TDRelaunchAdvisedConfigurationNeeded" : "TDRelaunchAdvised";
}

const uint = (json: JsonObject[string] | undefined, bits: number): number => Number(asUint(json, bits));

/** Hexadecimal digits of either case, as Intel writes them. */
function anyHex(json: JsonObject[string] | undefined, length?: number): Bytes {
  return unhex(asString(json).toLowerCase(), length) ?? fail("not the hexadecimal digits they should be");
}

function rfc3339(json: JsonObject[string] | undefined): number {
  const date = asString(json);
  const seconds = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(date) ? Date.parse(date) / 1000 : NaN;
  if (!(seconds >= 0)) fail("not a date");
  return Math.floor(seconds);
}
