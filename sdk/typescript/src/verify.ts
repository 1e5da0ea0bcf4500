// Whether to trust a node: a pure function of its report, a policy and a challenge. Nothing here reads a clock or the
// network. One check that fails rejects the report, whatever the others say.

import { type Bytes, concat, equal, fail, hex, isZero, text, unhex, utf8 } from "./bytes.js";
import { type Check, Checks } from "./checks.js";
import { isSignedBy, sha256 } from "./crypto.js";
import { gpuDevices } from "./gpu.js";
import { type JsonObject, asString, asUint, parseObject } from "./json.js";
import { type Policy, productionPolicy, simulatedPolicy } from "./policy.js";
import { type Platform, type Report, UnreadReport, nonceRoot, parseReport, reportData } from "./report.js";
import { type Roots, productionRoots } from "./roots.js";
import { snpQuote } from "./snp.js";
import { tdxQuote } from "./tdx.js";

export type Verdict = "accepted" | "rejected" | "unsupported" | "malformed";

export interface Appraisal {
  verdict: Verdict;
  platform: Platform | undefined;
  checks: Check[];
  /** What the evidence vouches for, where it was accepted. */
  attested: Attested | undefined;
}

/** What accepted evidence vouches for. */
export interface Attested {
  platform: Platform;
  /** X25519: what to seal requests to. */
  exchangeKey: Bytes;
  /** Ed25519: who signs answers. */
  signingKey: Bytes;
  keysetDigest: Bytes;
  modelManifest: Bytes;
  /** Seconds since 1970 until which the keys may be relied on. */
  notAfter: number;
}

export interface Challenge {
  /** The 32 bytes that were sent to this node; zeros where none were. */
  nonce: Bytes;
  /** Seconds since 1970. */
  now: number;
}

export interface Trust {
  /** attestation/policy.toml of this release, unless given. */
  policy?: Policy;
  /** Accepts simulated nodes too, whose operators read every prompt. */
  acceptSimulated?: boolean;
  /** Other rules for simulated nodes: for tests. */
  simulatedRules?: Policy;
  roots?: Partial<Roots>;
  /** Whether the report came over TLS. A browser does not show which key a connection ends at. */
  tls?: boolean;
}

/** Reads a report and judges it, wherever it came from. */
export async function appraise(json: Uint8Array, challenge: Challenge, trust: Trust = {}): Promise<Appraisal> {
  const checks = new Checks();
  let report: Report;
  try {
    report = parseReport(json);
  } catch (error) {
    if (!(error instanceof UnreadReport)) throw error;
    checks.fail("report.format", error.message);
    return { verdict: error.verdict, platform: undefined, checks: checks.all, attested: undefined };
  }
  const { nonce, now } = challenge;
  const rules = report.platform === "simulated" && trust.acceptSimulated ? trust.simulatedRules ?? simulatedPolicy() : trust.policy ?? productionPolicy();
  const roots = { ...productionRoots(), ...trust.roots };
  checks.pass("report.format");
  const platforms = checks.rule("platform.allowed", rules.platforms);
  if (platforms) checks.expect("platform.allowed", platforms.includes(report.platform), report.platform);
  freshness(nonce, rules, checks);
  const root = await nonceRoot(report.noncePath, nonce);
  checks.expect("nonce.path", root !== undefined, root ? `${report.noncePath.siblings.length} steps to the root` : "the nonce's place is outside the tree");
  const keys = await keyset(report, now, rules, checks);
  const modelManifest = await sha256(report.model_manifest);
  const manifest = hex(modelManifest);
  checks.oneOf("model.manifest", rules.model?.manifests, manifest, `SHA-256 ${manifest}`);

  const bound = report.platform === "snp" ? await snpQuote(report, roots.amd, now, rules, checks)
    : await tdxQuote(report, report.platform === "tdx" ? roots.intel : trust.acceptSimulated ? roots.simulated : undefined, now, rules, checks);
  if (root === undefined) checks.fail("binding.report_data", "the nonce leads to no root");
  else if (bound === undefined) checks.skip("binding.report_data", "no quote was verified");
  else if (equal(bound, await reportData(report, root))) checks.pass("binding.report_data");
  else checks.fail("binding.report_data", "the quote was made for something else");
  if (keys?.tls !== undefined || trust.tls) {
    const named = keys?.tls === undefined ? "the keyset names no TLS key" : `SHA-256 ${keys.tls}`;
    const found = trust.tls ? "whoever has the host's certificate reads what is not sealed: this client does not see at which key TLS ends" : "the report did not come through TLS";
    if (keys !== undefined) checks.info("tls.key", `${named}; ${found}`);
  }
  await gpuDevices(report, root, roots.nvidia, now, rules, checks);

  const accepted = keys !== undefined && bound !== undefined && checks.failing.length === 0;
  const attested = accepted
    ? { platform: report.platform, exchangeKey: keys.exchange, signingKey: keys.signing, notAfter: Number(keys.notAfter), keysetDigest: await sha256(report.keyset), modelManifest }
    : undefined;
  return { verdict: accepted ? "accepted" : "rejected", platform: report.platform, checks: checks.all, attested };
}

/** That the report binds this nonce is for the binding to show; here it is only whose nonce it is. */
function freshness(nonce: Bytes, rules: Policy, checks: Checks): void {
  const need = checks.rule("nonce.fresh", rules.fresh_nonce);
  const old = "no nonce was sent: the report may be of any age";
  if (need === undefined) return;
  if (!isZero(nonce)) checks.pass("nonce.fresh");
  else if (need === "required") checks.fail("nonce.fresh", old);
  else checks.skip("nonce.fresh", old);
}

interface Keys {
  exchange: Bytes;
  signing: Bytes;
  tls: string | undefined;
  notAfter: bigint;
}

const KEYSET = ["x25519", "ed25519", "key_id", "epoch", "not_before", "not_after", "build_id", "tls_spki_sha256", "configuration_sha256",
  "c2pa_spki_sha256"];

async function keyset(report: Report, now: number, rules: Policy, checks: Checks): Promise<Keys | undefined> {
  let fields: JsonObject, from: bigint, until: bigint, keys: Keys, configuration: JsonObject[string] | undefined;
  try {
    fields = parseObject(text(report.keyset), KEYSET);
    [, from, until] = [asUint(fields.epoch, 64), asUint(fields.not_before, 64), asUint(fields.not_after, 64)];
    asString(fields.key_id), asString(fields.build_id);
    const tls = fields.tls_spki_sha256 ?? undefined;
    configuration = fields.configuration_sha256 ?? undefined;
    const c2pa = fields.c2pa_spki_sha256 ?? undefined;
    const [exchange, signing] = [unhex(fields.x25519, 32), unhex(fields.ed25519, 32)];
    // What is named and is no digest is a mistake, and not the same as nothing.
    if (exchange === undefined || signing === undefined || (tls !== undefined && unhex(tls, 32) === undefined) ||
      (configuration !== undefined && unhex(configuration, 32) === undefined) ||
      (c2pa !== undefined && unhex(c2pa, 32) === undefined)) fail("not keys");
    keys = { exchange, signing, tls: tls as string | undefined, notAfter: until };
  } catch {
    checks.fail("keyset.format", "not the JSON object it should be");
    return undefined;
  }
  checks.pass("keyset.format", `key ${fields.key_id as string}, epoch ${String(fields.epoch)}`);
  const holds = await isSignedBy(keys.signing, concat(utf8("obscura/keyset/v1\0"), report.keyset), report.possession);
  checks.expect("keyset.possession", holds, `Ed25519 key ${hex(keys.signing)}`);
  checks.expect("keyset.valid_now", from <= now && now <= until, `from ${from} to ${until}, now ${now}`);
  const max = checks.rule("keyset.lifetime", rules.keyset?.max_lifetime_secs);
  const lifetime = until > from ? until - from : 0n;
  if (max !== undefined) checks.expect("keyset.lifetime", lifetime <= max, `${lifetime} s of ${max} s`);
  checks.oneOf("keyset.build", rules.keyset?.builds, fields.build_id as string);
  // What a keyset does not tell is in no list.
  const told = configuration === undefined ? "the keyset does not tell it" : `SHA-256 ${configuration as string}`;
  checks.oneOf("configuration.digest", rules.configuration?.digests, (configuration as string | undefined) ?? "", told);
  return keys;
}
