// Intel's part of a TDX quote (DCAP quoting library API, appendix 3, versions 4 and 5): who signed it, what vouches for
// the platform, and what Intel says of its firmware. The order and the strictness are those of the crate dcap-qvl.

import { type Bytes, Reader, concat, equal, hex, isZero, text, unhex, utf8 } from "./bytes.js";
import { sha256 } from "./crypto.js";
import { type Der, children, expect, objectId, one, sequence } from "./der.js";
import { type JsonObject, asList, asObject, asString, asUint, parseObject } from "./json.js";
import { checkRevocation, ecdsa, path, revocationList, withoutPadding } from "./x509.js";
import { type Certificate, type RevocationList } from "./x509.js";

const TDX = 0x81;
const BODY_BYTES: Record<number, number> = { 2: 584, 3: 648, 4: 885 };
const INTEL_QE = "939a7233f79c4ca9940a0db3957f0607";
const SGX = "1.2.840.113741.1.13.1";

/** What was signed of the guest. */
export type TdReport = Record<
  | "teeTcbSvn" | "mrseam" | "mrsignerseam" | "seamAttributes" | "tdAttributes" | "xfam" | "mrtd" | "mrconfigid"
  | "mrowner" | "mrownerconfig" | "rtmr0" | "rtmr1" | "rtmr2" | "rtmr3" | "reportData", Bytes>;

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
export async function verifyQuote(quoteBytes: Bytes, collateralBytes: Bytes, root: Certificate, now: number): Promise<Claims> {
  const collateral = readCollateral(collateralBytes);
  const quote = readQuote(quoteBytes);
  const lists = [collateral.rootCrl, collateral.pckCrl];
  await checkRevocation(root, collateral.rootCrl, root, now);

  const tcbInfo = parseObject(collateral.tcbInfo);
  const tcbPath = await signedBy(collateral.tcbChain, "TCB info", [collateral.tcbInfo, collateral.tcbSignature]);
  const tcbDates = dates(tcbInfo, "TCB info");
  const identity = parseObject(collateral.qeIdentity);
  const qePath = await signedBy(collateral.qeChain, "QE identity", [collateral.qeIdentity, collateral.qeSignature]);
  const qeDates = dates(identity, "QE identity");
  if (identity.id !== "TD_QE" || (identity.version !== 2 && identity.version !== 3)) throw new Error("not the identity of a TDX quoting enclave");

  const pckPath = await path(collateral.pckChain ?? quote.chain(), root, lists, now);
  if (!(await ecdsa("P-256", pckPath[0].key, quote.qeReport, quote.qeSignature))) throw new Error("the chip's key did not sign the quoting enclave's report");
  const qe = enclave(quote.qeReport);
  if (quote.qeAuthData.length !== 32 || !equal(await sha256(quote.key, quote.qeAuthData), qe.reportData.subarray(0, 32))) {
    throw new Error("the quoting enclave does not vouch for the quote's key");
  }
  const qeLevel = appraiseEnclave(qe, identity);
  if (!(await ecdsa("P-256", concat(new Uint8Array([4]), quote.key), quote.signed, quote.signature))) throw new Error("the quote's signature does not hold");

  const pck = pckExtension(pckPath[0]);
  const levels = platformLevels(tcbInfo, quote, pck);
  const statuses = levels.map((level) => converge(level.status, qeLevel.status));
  if (statuses.includes("Revoked")) throw new Error("Intel has revoked this platform's firmware");
  const [launch, current = launch] = statuses;
  checkAttributes(quote);

  const certificates = [...pckPath, ...tcbPath, ...qePath, root];
  const begins = [...lists.map((list) => list.from), ...certificates.map((one) => one.from), tcbDates[0], qeDates[0]];
  const ends = [...lists.map((list) => list.until), ...certificates.map((one) => one.until), tcbDates[1], qeDates[1]];
  return {
    version: quote.version, td: quote.td, fmspc: hex(pck.fmspc), ppid: pck.ppid, flags: pck.flags,
    status: statuses.length > 1 ? relaunch(launch, current) : launch,
    tcbDate: levels[0].date,
    advisories: [...new Set([...levels, qeLevel].flatMap((level) => level.advisories))].sort(),
    evaluation: Math.min(uint(tcbInfo.tcbEvaluationDataNumber, 32), uint(identity.tcbEvaluationDataNumber, 32)),
    from: Math.max(...begins),
    until: Math.min(...ends),
  };

  async function signedBy(pem: string, what: string, [message, signature]: [string, Bytes]): Promise<Certificate[]> {
    const found = await path(pem, root, lists, now);
    if (found.length !== 1) throw new Error(`the signer of the ${what} is not issued by the root itself`);
    if (!(await ecdsa("P-256", found[0].key, utf8(message), signature))) throw new Error(`the signature of the ${what} does not hold`);
    return found;
  }

  function dates(json: JsonObject, what: string): [number, number] {
    const [from, until] = [rfc3339(json.issueDate), rfc3339(json.nextUpdate)];
    if (now < from || now > until) throw new Error(`the ${what} is not of this time`);
    return [from, until];
  }
}

interface Collateral {
  rootCrl: RevocationList; pckCrl: RevocationList; tcbChain: string; tcbInfo: string; tcbSignature: Bytes;
  qeChain: string; qeIdentity: string; qeSignature: Bytes; pckChain: string | undefined;
}

function readCollateral(bytes: Bytes): Collateral {
  let json: JsonObject;
  try {
    json = parseObject(text(bytes));
    asString(json.pck_crl_issuer_chain);
  } catch {
    throw new Error("the collateral is not the JSON object it should be");
  }
  const pckChain = json.pck_certificate_chain ?? undefined;
  return {
    rootCrl: revocationList(anyHex(json.root_ca_crl)), pckCrl: revocationList(anyHex(json.pck_crl)),
    tcbChain: asString(json.tcb_info_issuer_chain), tcbInfo: asString(json.tcb_info), tcbSignature: anyHex(json.tcb_info_signature),
    qeChain: asString(json.qe_identity_issuer_chain), qeIdentity: asString(json.qe_identity), qeSignature: anyHex(json.qe_identity_signature),
    pckChain: pckChain === undefined ? undefined : asString(pckChain),
  };
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
  if ((version !== 4 && version !== 5) || tee !== TDX) throw new Error("not a quote of a TDX guest, version 4 or 5");
  if (keyType !== 2 || vendor !== INTEL_QE) throw new Error("not a quote of Intel's quoting enclave with a P-256 key");
  const type = version === 5 ? reader.uint(2) : 2;
  const bodyBytes = BODY_BYTES[type];
  if (bodyBytes === undefined || (version === 5 && reader.uint(4) !== bodyBytes)) throw new Error("a quote's body of an unknown kind");
  const body = new Reader(reader.take(bodyBytes));
  const td = tdReport(body);
  const later = type === 2 ? undefined : { teeTcbSvn2: body.take(16), mrservicetd: body.take(48) };
  const signed = bytes.subarray(0, reader.at);
  const data = new Reader(reader.take(reader.uint(4)));
  const [signature, key] = [data.take(64), data.take(64)];
  if (data.uint(2) !== 6) throw new Error("certification data of an unknown type");
  const certification = new Reader(data.take(data.uint(4)));
  const [qeReport, qeSignature] = [certification.take(384), certification.take(64)];
  const qeAuthData = certification.take(certification.uint(2));
  const chainType = certification.uint(2);
  const chainBytes = certification.take(certification.uint(4));
  if (certification.rest().length + data.rest().length !== 0) throw new Error("a length that leaves room");
  if (withoutPadding(reader.rest()).length !== 0) throw new Error("bytes follow the quote's end");
  const chain = (): string => {
    if (chainType !== 5) throw new Error("certificates of an unknown form");
    return String.fromCharCode(...chainBytes);
  };
  return { version, signed, signature, key, qeReport, qeSignature, qeAuthData, chain, td, later };
}

function tdReport(body: Reader): TdReport {
  const [teeTcbSvn, mrseam, mrsignerseam] = [body.take(16), body.take(48), body.take(48)];
  const [seamAttributes, tdAttributes, xfam] = [body.take(8), body.take(8), body.take(8)];
  const [mrtd, mrconfigid, mrowner, mrownerconfig] = [body.take(48), body.take(48), body.take(48), body.take(48)];
  const [rtmr0, rtmr1, rtmr2, rtmr3, reportData] = [body.take(48), body.take(48), body.take(48), body.take(48), body.take(64)];
  return { teeTcbSvn, mrseam, mrsignerseam, seamAttributes, tdAttributes, xfam, mrtd, mrconfigid, mrowner, mrownerconfig, rtmr0, rtmr1, rtmr2, rtmr3, reportData };
}

/** Reserved bits, migration, pages that a host may swap, service guests. Debugging has a check of its own. */
function checkAttributes({ td, later }: Quote): void {
  const bits = td.tdAttributes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  const span = (from: number, to: number): bigint => ((1n << BigInt(to - from + 1)) - 1n) << BigInt(from);
  const reserved = span(1, 3) | span(7, 15) | span(23, 26) | span(32, 61);
  if (later !== undefined && !isZero(later.mrservicetd)) throw new Error("a service guest is bound");
  if ((bits & reserved) !== 0n) throw new Error("reserved attributes are set");
  if ((bits & (span(29, 29) | span(17, 17))) !== 0n) throw new Error("the guest may be migrated, or has service guests");
  if ((bits & span(28, 28)) === 0n) throw new Error("a host may take pages away: SEPT_VE_DISABLE is not set");
}

interface Enclave {
  misc: Bytes; attributes: Bytes; mrsigner: Bytes; product: number; svn: number; reportData: Bytes;
}

function enclave(report: Bytes): Enclave {
  const at = (from: number, length: number): Bytes => report.subarray(from, from + length);
  const uint16 = (from: number): number => report[from] + 256 * report[from + 1];
  return { misc: at(16, 4), attributes: at(48, 16), mrsigner: at(128, 32), product: uint16(256), svn: uint16(258), reportData: at(320, 64) };
}

interface Level {
  status: string;
  date: string;
  advisories: string[];
}

function appraiseEnclave(qe: Enclave, identity: JsonObject): Level {
  const same = (found: Bytes, expected: string, mask: string): boolean => {
    const [value, bits] = [anyHex(identity[expected], found.length), anyHex(identity[mask], found.length)];
    return found.every((byte, i) => (byte & bits[i]) === (value[i] & bits[i]));
  };
  if (!equal(qe.mrsigner, anyHex(identity.mrsigner, 32)) || qe.product !== uint(identity.isvprodid, 16)) throw new Error("not Intel's quoting enclave");
  if (qe.attributes[0] & 2) throw new Error("the quoting enclave may be debugged");
  if (!same(qe.misc, "miscselect", "miscselectMask") || !same(qe.attributes, "attributes", "attributesMask")) throw new Error("the quoting enclave has other attributes");
  const levels = asList(identity.tcbLevels).map((level) => asObject(level));
  const found = levels.find((level) => qe.svn >= uint(asObject(level.tcb).isvsvn, 16));
  if (found === undefined) throw new Error("the quoting enclave is older than every level that Intel lists");
  return level(found, ["UpToDate", "OutOfDate", "ConfigurationNeeded", "Revoked", "OutOfDateConfigurationNeeded"]);
}

interface Pck {
  ppid: Bytes; fmspc: Bytes; cpuSvn: Bytes; pceSvn: number;
  flags: { dynamicPlatform: boolean; cachedKeys: boolean; smt: boolean };
}

/** What Intel wrote into the chip's certificate. */
function pckExtension(leaf: Certificate): Pck {
  const extension = leaf.extensions.get(SGX);
  if (extension === undefined) throw new Error("not a chip's certificate");
  const find = (entries: Der[], id: string): Der | undefined => entries.map(sequence).find(([name]) => objectId(name) === `${SGX}.${id}`)?.[1];
  const fields = sequence(one(extension));
  const bytes = (value: Der | undefined, length: number): Bytes => {
    const found = expect(value, undefined).value;
    if (found.length !== length) throw new Error("a field of the chip's certificate is of another length");
    return found;
  };
  const tcb = children(expect(find(fields, "2"), undefined));
  const settings = find(fields, "7");
  const flag = (id: string): boolean => {
    const value = settings && find(children(settings), id);
    return value !== undefined && bytes(value, 1)[0] !== 0;
  };
  const pceSvn = expect(find(tcb, "2.17"), undefined).value;
  if (pceSvn.length < 1 || pceSvn.length > 2) throw new Error("a field of the chip's certificate is of another length");
  expect(find(fields, "3"), undefined), expect(find(fields, "5"), undefined);
  return {
    ppid: expect(find(fields, "1"), undefined).value, fmspc: bytes(find(fields, "4"), 6), cpuSvn: bytes(find(tcb, "2.18"), 16),
    pceSvn: pceSvn.reduce((value, byte) => value * 256 + byte, 0),
    flags: { dynamicPlatform: flag("7.1"), cachedKeys: flag("7.2"), smt: flag("7.3") },
  };
}

/** The level at the guest's launch, and of TDX 1.5 the present one. */
function platformLevels(tcbInfo: JsonObject, { td, later }: Quote, pck: Pck): Level[] {
  if (!equal(anyHex(tcbInfo.fmspc), pck.fmspc)) throw new Error("the TCB info is of another kind of platform");
  if (uint(tcbInfo.version, 8) < 3 || tcbInfo.id !== "TDX") throw new Error("not the TCB info of TDX platforms");
  const levels = asList(tcbInfo.tcbLevels).map((json) => {
    const [fields, tcb] = [asObject(json), asObject(asObject(json).tcb)];
    const svns = (list: "sgxtcbcomponents" | "tdxtcbcomponents"): number[] => {
      const found = asList(tcb[list]).map((component) => uint(asObject(component).svn, 8));
      if (found.length !== 16) throw new Error("a TCB level of other than 16 components");
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
    if (met === undefined) throw new Error("the platform is older than every level that Intel lists");
    const platform = level(met.fields, ["UpToDate", "OutOfDate", "ConfigurationNeeded", "Revoked", "OutOfDateConfigurationNeeded", "SWHardeningNeeded", "ConfigurationAndSWHardeningNeeded"]);
    const identity = moduleIdentity(tcbInfo, svn);
    if (identity === undefined) return platform;
    const found = asList(identity.tcbLevels).map((json) => asObject(json)).find((json) => svn[0] >= uint(asObject(json.tcb).isvsvn, 8));
    if (found === undefined) throw new Error("the TDX module is older than every level that Intel lists");
    const moduleLevel = level(found, ["UpToDate", "OutOfDate", "Revoked"]);
    return {
      status: converge(platform.status, moduleLevel.status),
      date: rfc3339(moduleLevel.date) < rfc3339(platform.date) ? moduleLevel.date : platform.date,
      advisories: [...platform.advisories, ...moduleLevel.advisories],
    };
  };
  const found = [appraise(td.teeTcbSvn)];
  const expected = { ...asObject(tcbInfo.tdxModule), ...module };
  const [signer, attributes, mask] = [anyHex(expected.mrsigner, 48), anyHex(expected.attributes, 8), anyHex(expected.attributesMask, 8)];
  if (!equal(td.mrsignerseam, signer)) throw new Error("another signed the TDX module");
  if (!td.seamAttributes.every((byte, i) => (byte & mask[i]) === (attributes[i] & mask[i]) && (byte & ~mask[i]) === 0)) throw new Error("the TDX module has other attributes");
  if (later !== undefined) found.push(appraise(later.teeTcbSvn2));
  return found;
}

/** The identity of the module's major version; none for version 0. */
function moduleIdentity(tcbInfo: JsonObject, svn: Bytes): JsonObject | undefined {
  if (svn[1] === 0) return undefined;
  const id = `TDX_${svn[1].toString(16).padStart(2, "0")}`.toLowerCase();
  const found = asList(tcbInfo.tdxModuleIdentities ?? []).map((json) => asObject(json)).find((json) => asString(json.id).toLowerCase() === id);
  if (found === undefined) throw new Error("Intel lists no TDX module of this version");
  return found;
}

function level(json: JsonObject, statuses: string[]): Level {
  const status = asString(json.tcbStatus);
  if (!statuses.includes(status)) throw new Error("a TCB status that is not known");
  rfc3339(json.tcbDate);
  return { status, date: asString(json.tcbDate), advisories: asList(json.advisoryIDs ?? []).map(asString) };
}

/** A platform's status with that of its module or quoting enclave, as Intel's library converges them. */
function converge(platform: string, component: string): string {
  if (component === "Revoked") return component;
  if (component !== "OutOfDate") return platform;
  if (platform === "UpToDate" || platform === "SWHardeningNeeded") return "OutOfDate";
  return platform === "ConfigurationNeeded" || platform === "ConfigurationAndSWHardeningNeeded" ? "OutOfDateConfigurationNeeded" : platform;
}

/** Firmware that was renewed under a running guest. */
function relaunch(launch: string, current: string): string {
  const isOld = launch === "OutOfDate" || launch === "OutOfDateConfigurationNeeded";
  const isNew = ["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"].includes(current);
  if (!isOld || !isNew) return launch;
  return [launch, current].some((status) => status.includes("Configuration")) ? "TDRelaunchAdvisedConfigurationNeeded" : "TDRelaunchAdvised";
}

const uint = (json: JsonObject[string] | undefined, bits: number): number => Number(asUint(json, bits));

/** Hexadecimal digits of either case, as Intel writes them. */
function anyHex(json: JsonObject[string] | undefined, length?: number): Bytes {
  const bytes = unhex(asString(json).toLowerCase(), length);
  if (bytes === undefined) throw new Error("not the hexadecimal digits they should be");
  return bytes;
}

function rfc3339(json: JsonObject[string] | undefined): number {
  const date = asString(json);
  const seconds = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(date) ? Date.parse(date) / 1000 : NaN;
  if (!(seconds >= 0)) throw new Error("not a date");
  return Math.floor(seconds);
}
