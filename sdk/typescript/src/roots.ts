// The roots that evidence must lead to. They are part of this package; others are for tests.

import { type Bytes, hex, unbase64 } from "./bytes.js";
import { AMD, INTEL, NVIDIA, SIMULATED } from "./data.js";
import { bits, one, sequence } from "./der.js";
import { type Certificate } from "./x509.js";

/** What is believed of a certificate whose key is pinned (RFC 5280 §6.1.1 (d)): who signed it is not asked. */
export type TrustAnchor = Pick<Certificate, "subject" | "serial" | "from" | "until" | "spki" | "key">;

/** AMD's root and signing keys of one generation of processors. */
export interface AmdRoot {
  generation: string;
  ark: TrustAnchor;
  ask: TrustAnchor;
}

/** Whoever replaces one trusts whoever holds its key. */
export interface Roots {
  intel: TrustAnchor;
  /** Simulated quotes lead here; looked at only where simulation was asked for. */
  simulated: TrustAnchor;
  nvidia: TrustAnchor;
  amd: AmdRoot[];
}

function anchor({ subject, spki, ...rest }: typeof INTEL): TrustAnchor {
  const der = (base64: string): Bytes => unbase64(base64, 1024)!;
  return { ...rest, subject: hex(der(subject)), spki: der(spki), key: bits(sequence(one(der(spki)))[1]) };
}

export const productionRoots = (): Roots => ({
  intel: anchor(INTEL), simulated: anchor(SIMULATED), nvidia: anchor(NVIDIA),
  amd: AMD.map(({ generation, ark, ask }) => ({ generation, ark: anchor(ark), ask: anchor(ask) })),
});
