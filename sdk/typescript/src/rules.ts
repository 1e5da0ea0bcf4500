// Reads a policy that somebody wrote. The page, which has this release's own alone, is built without this file.

import { ConfigurationError } from "./errors.js";
import { type Policy } from "./policy.js";

type Rule = (value: unknown) => boolean;
const word = (...words: string[]): Rule => (value) => words.includes(value as string);
const string: Rule = (value) => typeof value === "string";
const uint = (bits: number): Rule => (value) => Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < 2 ** bits;
const digits = (bytes: number): Rule => (value) => string(value) && new RegExp(`^[0-9a-f]{${2 * bytes}}$`).test(value as string);
const list = (of: Rule): Rule => (value) => Array.isArray(value) && value.every(of);
const any = (of: Rule): Rule => (value) => value === "any" || list(of)(value);
const table = (rules: Record<string, Rule>, required: string[] = []): Rule => (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value) &&
  required.every((name) => Object.hasOwn(value, name)) &&
  Object.entries(value).every(([name, found]) => Object.hasOwn(rules, name) && rules[name](found));

const need = word("required", "optional");
const permit = word("allow", "refuse");
const notAppraised = word("not appraised");
const STATUSES = [
  "UpToDate", "OutOfDateConfigurationNeeded", "OutOfDate", "ConfigurationAndSWHardeningNeeded", "ConfigurationNeeded",
  "SWHardeningNeeded", "Revoked", "TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded",
];
const tcb = table({ fmc: uint(8), bootloader: uint(8), tee: uint(8), snp: uint(8), microcode: uint(8) }, ["bootloader", "tee", "snp", "microcode"]);
const each = (bytes: number, ...names: string[]): Record<string, Rule> => Object.fromEntries(names.map((name) => [name, any(digits(bytes))]));
const platform = {
  name: string, mrtd: digits(48), rtmr0: digits(48),
  ...each(48, "mrseam", "mrsignerseam"), ...each(8, "xfam", "td_attributes", "seam_attributes"),
};
const image = { name: string, rtmr1: digits(48), rtmr2: digits(48), ...each(48, "mrconfigid", "mrowner", "mrownerconfig") };
const tdxPlatform = table(platform, ["name", "mrtd", "rtmr0"]);
const tdxImage = table(image, ["name", "rtmr1", "rtmr2"]);
const tdxRelease = table({ ...platform, ...image }, ["name", "mrtd", "rtmr0", "rtmr1", "rtmr2"]);
const snpRelease = table({
  name: string, measurement: digits(48), cpu: string, vcpus: uint(32),
  ...each(32, "host_data"), ...each(16, "family_id", "image_id"), ...each(48, "id_key_digest", "author_key_digest"),
}, ["name", "measurement"]);

const RULES: Record<string, Rule> = {
  // None makes a simulated node acceptable.
  platforms: list(word("tdx", "snp")),
  fresh_nonce: need,
  keyset: table({ max_lifetime_secs: uint(53), builds: any(string) }),
  configuration: table({ digests: any(digits(32)) }),
  model: table({ manifests: any(digits(32)) }),
  tdx: table({
    tcb_statuses: list(word(...STATUSES)), advisories: any(string), min_tcb_evaluation_data_number: uint(32),
    dynamic_platform: permit, cached_keys: permit, smt: permit, rtmr3_model_event: need,
    hardware: any(digits(16)), releases: any(tdxRelease), platforms: any(tdxPlatform), images: any(tdxImage),
  }),
  snp: table({
    min_report_version: uint(32), min_tcb: table({ milan: tcb, genoa: tcb, turin: tcb }),
    crl: need, smt: permit, hardware: any(string), releases: any(snpRelease),
  }),
  gpu: table({ evidence: need, reference_measurements: notAppraised, revocation: notAppraised }),
};

/** Reads a policy; throws where it holds a rule that is not known. */
export function readPolicy(json: unknown): Policy {
  const fields = typeof json === "object" && json !== null && !Array.isArray(json) ? Object.entries(json) : undefined;
  if (fields === undefined) throw new ConfigurationError("the policy is not an object");
  for (const [name, value] of fields) {
    if (!Object.hasOwn(RULES, name) || !RULES[name](value)) throw new ConfigurationError(`the policy's ${name} cannot be understood`);
  }
  return structuredClone(json) as Policy;
}
