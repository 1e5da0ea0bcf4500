// The roots that evidence must lead to. They are part of this package; others are for tests.

import { type Bytes, hex, unbase64, utf8 } from "./bytes.js";
import { AMD, AMD_NAME, INTEL, NVIDIA, RSA_4096, SIMULATED } from "./data.js";
import { type Certificate } from "./x509.js";

/** What is believed of a certificate whose key is pinned (RFC 5280 §6.1.1 (d)): who signed it is not asked. */
export type TrustAnchor = Pick<Certificate, "subject" | "serial" | "from" | "until" | "spki">;

/** AMD's root and signing keys of one generation of processors. */
export interface AmdRoot {
  generation: string;
  ark: TrustAnchor;
  ask: TrustAnchor;
}

/** DER, but for AMD's. Whoever replaces one trusts whoever holds its key. */
export interface Roots {
  intel: Bytes;
  /** Simulated quotes lead here; looked at only where simulation was asked for. */
  simulated: Bytes;
  nvidia: Bytes;
  amd: AmdRoot[];
}

const der = (base64: string): Bytes => unbase64(base64, 64 * 1024)!;

const anchor = ({ name, key, ...rest }: (typeof AMD)[number]["ask"]): TrustAnchor =>
  ({ ...rest, subject: AMD_NAME + hex(utf8(name)), spki: der(RSA_4096 + key) });

export const productionRoots = (): Roots => ({
  intel: der(INTEL), simulated: der(SIMULATED), nvidia: der(NVIDIA),
  amd: AMD.map(({ generation, ark, ask }) => ({ generation, ark: anchor(ark), ask: anchor(ask) })),
});
