// What a verifier trusts: attestation/policy.toml, as JSON. A rule that is missing refuses.

import { POLICY, SIMULATED_POLICY } from "./data.js";

export type Need = "required" | "optional";
export type Permit = "allow" | "refuse";
export type Allow = "any" | string[];

/** One shape of machine. */
export interface TdxPlatform {
  name: string; mrtd: string; rtmr0: string; xfam?: Allow;
  td_attributes?: Allow; mrseam?: Allow; mrsignerseam?: Allow; seam_attributes?: Allow;
}
/** What runs there. */
export interface TdxImage {
  name: string; rtmr1: string; rtmr2: string; mrconfigid?: Allow; mrowner?: Allow; mrownerconfig?: Allow;
}
export type TdxRelease = TdxPlatform & TdxImage;
export interface SnpRelease {
  name: string; measurement: string; cpu?: string; vcpus?: number;
  host_data?: Allow; family_id?: Allow; image_id?: Allow; id_key_digest?: Allow; author_key_digest?: Allow;
}
export interface SnpTcb {
  /** Turin's alone, and there no report passes without it. */
  fmc?: number; bootloader: number; tee: number; snp: number; microcode: number;
}
export interface Policy {
  platforms?: ("tdx" | "snp" | "simulated")[];
  fresh_nonce?: Need;
  keyset?: { max_lifetime_secs?: number; builds?: Allow };
  configuration?: { digests?: Allow };
  model?: { manifests?: Allow };
  tdx?: {
    tcb_statuses?: string[]; advisories?: Allow; min_tcb_evaluation_data_number?: number;
    dynamic_platform?: Permit; cached_keys?: Permit; smt?: Permit; rtmr3_model_event?: Need;
    hardware?: Allow; releases?: "any" | TdxRelease[]; platforms?: "any" | TdxPlatform[]; images?: "any" | TdxImage[];
  };
  snp?: {
    min_report_version?: number; min_tcb?: { milan?: SnpTcb; genoa?: SnpTcb; turin?: SnpTcb };
    crl?: Need; smt?: Permit; hardware?: Allow; releases?: "any" | SnpRelease[];
  };
  gpu?: { evidence?: Need; reference_measurements?: "not appraised"; revocation?: "not appraised" };
}

/** Copies, as whoever has one may add to it. */
export const productionPolicy = (): Policy => structuredClone(POLICY) as Policy;
export const simulatedPolicy = (): Policy => structuredClone(SIMULATED_POLICY) as Policy;
