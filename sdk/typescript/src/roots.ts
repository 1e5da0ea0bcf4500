// The roots that evidence must lead to. They are part of this package; others are for tests.

import { type Bytes, unbase64 } from "./bytes.js";
import { AMD, INTEL, NVIDIA, SIMULATED } from "./data.js";

/** AMD's root and signing keys of one generation of processors, DER. */
export interface AmdRoot {
  generation: string;
  ark: Bytes;
  ask: Bytes;
}

/** DER. Whoever replaces one trusts whoever holds its key. */
export interface Roots {
  intel: Bytes;
  /** Simulated quotes lead here; looked at only where simulation was asked for. */
  simulated: Bytes;
  nvidia: Bytes;
  amd: AmdRoot[];
}

const der = (base64: string): Bytes => unbase64(base64, 64 * 1024)!;

export const productionRoots = (): Roots => ({
  intel: der(INTEL),
  simulated: der(SIMULATED),
  nvidia: der(NVIDIA),
  amd: AMD.map(({ generation, ark, ask }) => ({ generation, ark: der(ark), ask: der(ask) })),
});
