// A TDX guest, by its quote: a check for each thing that a policy decides.

import { type Bytes, equal, fail, hex, isZero, text, unhex, utf8 } from "./bytes.js";
import { type CheckId, Checks } from "./checks.js";
import { sha, sha256 } from "./crypto.js";
import { type Claims, type TdReport, verifyQuote } from "./dcap.js";
import { asList, asObject, asString, parse } from "./json.js";
import { type Policy, type TdxImage, type TdxPlatform, type TdxRelease } from "./policy.js";
import { type Report } from "./report.js";
import { type TrustAnchor } from "./roots.js";

const MAX_EVENTS = 256;

type TdxRules = NonNullable<Policy["tdx"]>;

/** Verifies the quote; gives the report data that it signs. */
export async function tdxQuote(report: Report, root: TrustAnchor | undefined, now: number, rules: Policy, checks: Checks): Promise<Bytes | undefined> {
  const before = checks.all.length;
  const reportData = await signed(report, root, now, rules.tdx ?? {}, checks);
  if (report.platform === "simulated") {
    // What a simulated guest says of itself is nobody's finding.
    for (const check of checks.all.slice(before)) check.detail = check.detail === "" ? "made up" : `made up: ${check.detail}`;
  }
  return reportData;
}

async function signed(report: Report, root: TrustAnchor | undefined, now: number, rules: TdxRules, checks: Checks): Promise<Bytes | undefined> {
  const signature = report.platform === "simulated" ? "simulated.quote" : "tdx.quote";
  if (root === undefined) return void checks.fail(signature, "no root is known that simulated quotes lead to");
  let claims: Claims;
  try {
    claims = await verifyQuote(report.quote, report.collateral, root, now);
  } catch (error) {
    return void checks.fail(signature, (error as Error).message);
  }
  const { td } = claims;
  checks.pass(signature, `version ${claims.version}, FMSPC ${claims.fmspc}`);
  checks.expect("tdx.attributes", td.tdAttributes[0] === 0, `TDATTRIBUTES ${hex(td.tdAttributes)}`);
  const { from, until } = claims;
  checks.expect("tdx.collateral", from <= now && now < until, `from ${from} until ${until}, now ${now}`);
  firmware(claims, rules, checks);
  release(td, rules, checks);
  await rtmr3(report, td, rules, checks);
  if (claims.ppid.length !== 16) checks.fail("tdx.hardware", "the platform's id is not 16 bytes");
  else checks.oneOf("tdx.hardware", rules.hardware, hex(claims.ppid), `PPID ${hex(claims.ppid)}`);
  return td.reportData;
}

function firmware(claims: Claims, rules: TdxRules, checks: Checks): void {
  const statuses = checks.rule("tdx.tcb_status", rules.tcb_statuses);
  if (statuses) checks.expect("tdx.tcb_status", statuses.includes(claims.status), `${claims.status}, firmware of ${claims.tcbDate}`);
  const open = claims.advisories;
  const allowed = checks.rule("tdx.advisories", rules.advisories);
  if (allowed !== undefined && open.length === 0) checks.pass("tdx.advisories", "none is open");
  else if (allowed === "any") checks.skip("tdx.advisories", `${open.join(", ")}; the policy takes any`);
  else if (allowed !== undefined) checks.expect("tdx.advisories", open.every((id) => allowed.includes(id)), open.join(", "));
  const min = checks.rule("tdx.tcb_evaluation", rules.min_tcb_evaluation_data_number);
  if (min !== undefined) checks.expect("tdx.tcb_evaluation", claims.evaluation >= min, `${claims.evaluation}, at least ${min}`);
  checks.permitted("tdx.dynamic_platform", rules.dynamic_platform, claims.flags.dynamicPlatform);
  checks.permitted("tdx.cached_keys", rules.cached_keys, claims.flags.cachedKeys);
  checks.permitted("tdx.smt", rules.smt, claims.flags.smt);
}

/** How an image and a platform say that the guest is set up: the check, the rule, and where the quote has it. */
const IMAGE: [CheckId, keyof TdxImage, keyof TdReport][] = [
  ["tdx.mrconfigid", "mrconfigid", "mrconfigid"], ["tdx.mrowner", "mrowner", "mrowner"],
  ["tdx.mrownerconfig", "mrownerconfig", "mrownerconfig"],
];
const PLATFORM: [CheckId, keyof TdxPlatform, keyof TdReport][] = [
  ["tdx.xfam", "xfam", "xfam"], ["tdx.td_attributes", "td_attributes", "tdAttributes"], ["tdx.mrseam", "mrseam", "mrseam"],
  ["tdx.mrsignerseam", "mrsignerseam", "mrsignerseam"], ["tdx.seam_attributes", "seam_attributes", "seamAttributes"],
];

/** A policy names platform and image together, or each for itself, and then both: registers of two releases make no third. */
function release(td: TdReport, rules: TdxRules, checks: Checks): void {
  const [mrtd, rtmr0, rtmr1, rtmr2] = [hex(td.mrtd), hex(td.rtmr0), hex(td.rtmr1), hex(td.rtmr2)];
  const read = <R>(settings: [CheckId, keyof R, keyof TdReport][]): [CheckId, keyof R, string][] => settings.map(([id, rule, field]) => [id, rule, hex(td[field])]);
  const isPlatform = (one: TdxPlatform): boolean => one.mrtd === mrtd && one.rtmr0 === rtmr0;
  const isImage = (one: TdxImage): boolean => one.rtmr1 === rtmr1 && one.rtmr2 === rtmr2;
  const whole = (into: Checks, rule = rules.releases): Checks => {
    const settings = [...read<TdxRelease>(IMAGE), ...read<TdxRelease>(PLATFORM)];
    matchRelease("tdx.release", rule, `MRTD ${mrtd}`, settings, (one) => isPlatform(one) && isImage(one), into);
    return into;
  };
  const inParts = rules.platforms !== undefined || rules.images !== undefined;
  // Whoever names parts does not mean that any release goes.
  if (!inParts || (Array.isArray(rules.releases) && whole(new Checks()).failing.length === 0)) return void whole(checks);
  matchRelease("tdx.platform", rules.platforms, `MRTD ${mrtd}, RTMR0 ${rtmr0}`, read(PLATFORM), isPlatform, checks);
  matchRelease("tdx.image", rules.images, `RTMR1 ${rtmr1}, RTMR2 ${rtmr2}`, read(IMAGE), isImage, checks);
}

/** Finds the release that was measured, and compares each setting with what it says. */
export function matchRelease<R extends { name: string }>(
  id: CheckId, rule: "any" | R[] | undefined, found: string, settings: [CheckId, keyof R, string][],
  measures: (release: R) => boolean, checks: Checks,
): void {
  const releases = checks.rule(id, rule);
  if (releases === undefined) return;
  const skip = (why: string): void => settings.forEach(([setting, , value]) => checks.skip(setting, `${value}; ${why}`));
  if (releases === "any") {
    checks.skip(id, `${found}; the policy takes any`);
    return skip("the policy takes any release");
  }
  const compare = (release: R, into: Checks): Checks => {
    for (const [setting, name, value] of settings) into.oneOf(setting, release[name] as "any" | string[] | undefined, value);
    return into;
  };
  const measured = releases.filter(measures);
  // Of several entries of these measurements, one fits in everything; or the first says what does not.
  const entry = measured.find((release) => compare(release, new Checks()).failing.length === 0) ?? measured[0];
  if (entry === undefined) {
    checks.fail(id, found);
    return skip("there is no release to compare with");
  }
  checks.pass(id, `release ${entry.name}`);
  compare(entry, checks);
}

/** A log that is there must replay. Whether one must be there is for the policy to say. */
async function rtmr3({ event_log, model_manifest }: Report, td: TdReport, rules: TdxRules, checks: Checks): Promise<void> {
  const need = checks.rule("tdx.rtmr3", rules.rtmr3_model_event);
  if (need === undefined) return;
  if (event_log.length === 0 && isZero(td.rtmr3) && need === "optional") return checks.skip("tdx.rtmr3", "nothing was extended; the policy takes that");
  try {
    const events = await eventLog(event_log);
    let replayed: Bytes = new Uint8Array(48);
    for (const { digest } of events) replayed = await sha("SHA-384", replayed, digest);
    if (!equal(replayed, td.rtmr3)) fail(`the log does not lead to RTMR3 ${hex(td.rtmr3)}`);
    const models = events.filter(({ name }) => name === "model-manifest").map(({ payload }) => payload);
    checks.expect("tdx.rtmr3", models.length === 1 && models[0] === hex(await sha256(model_manifest)), `RTMR3 ${hex(td.rtmr3)}, ${models.length} model(s)`);
  } catch (error) {
    checks.fail("tdx.rtmr3", (error as Error).message);
  }
}

/** What the guest extended; each digest must be that of its event. */
async function eventLog(json: Bytes): Promise<{ name: string; payload: string; digest: Bytes }[]> {
  const events = asList(parse(text(json) ?? ""));
  if (events.length > MAX_EVENTS) fail(`the event log has more than ${MAX_EVENTS} events`);
  return Promise.all(events.map(async (event, index) => {
    const fields = asObject(event, ["name", "payload", "digest"]);
    const [name, payload] = [utf8(asString(fields.name)), unhex(fields.payload)];
    const length = new Uint8Array(new Uint32Array([name.length]).buffer);
    const digest = payload && (await sha("SHA-384", utf8("obscura/event/v1\0"), length, name, payload));
    const said = unhex(asString(fields.digest), 48);
    if (digest === undefined || said === undefined || !equal(digest, said)) fail(`event ${index} does not have the digest it says`);
    return { name: fields.name as string, payload: fields.payload as string, digest: said };
  }));
}
