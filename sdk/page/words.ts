// What checks mean, for people.

import { type Check } from "../typescript/src/index.js";

export interface Fact {
  title: string;
  ids: RegExp;
  good: string;
  bad: string;
  /** Where something of it was not looked at, by the policy's leave. */
  open?: string;
}

export const FACTS: Fact[] = [
  { title: "Real hardware", ids: /^(platform|simulated|tdx\.(quote|attributes|collateral|tcb|advis|dyn|cached|smt)|snp\.(report|signing|chain|crl|chip|signature|guest|smt|tcb))/, good: "The processor’s maker vouches for this machine, and for its firmware.", bad: "No processor’s maker vouches for this machine." },
  { title: "Known code", ids: /^(tdx|snp)\.(release|rtmr3|mr|xfam|td_attr|seam|host|family|image|id_key|author)/, good: "What runs there is a trusted release, bit by bit.", bad: "What runs there is not a trusted release.", open: "The policy takes some of what runs there as it is." },
  { title: "Known model", ids: /^model/, good: "The model’s files are the ones the policy names.", bad: "The model’s files are not the ones the policy names.", open: "Which model it is was measured, and the policy takes any." },
  { title: "Right now", ids: /^(nonce|binding)/, good: "The evidence answers a challenge that this page made up just now.", bad: "The evidence is old, or another’s." },
  { title: "Its own keys", ids: /^keyset\.(format|poss|valid|life)/, good: "What you send is sealed to a key that the evidence names.", bad: "The key that is offered is not the evidence’s." },
  { title: "Its GPU", ids: /^gpu\.(evidence|chain|distinct|firmware|signature|nonce)/, good: "NVIDIA vouches for the GPU, in its confidential mode.", bad: "No confidential GPU vouched for itself.", open: "No GPU took part." },
];

const MEANINGS: Record<string, string> = {
  "platform.allowed": "No hardware stands behind this node: it says itself that it is a demonstration.",
  "simulated.quote": "Its evidence is signed by published keys, which anybody has.",
  "tdx.quote": "Intel’s keys do not vouch for its evidence.",
  "tdx.release": "Nobody has published what it runs as a trusted release.",
  "tdx.rtmr3": "Which model it loaded does not follow from what it measured.",
  "tdx.tcb_status": "Its firmware is not up to date.",
  "snp.chain": "AMD’s keys do not vouch for its evidence.",
  "snp.release": "Nobody has published what it runs as a trusted release.",
  "snp.signature": "Its processor did not sign this evidence.",
  "configuration.digest": "It is configured in a way that this page’s policy does not trust.",
  "model.manifest": "Its model’s files are none that this page’s policy trusts.",
  "binding.report_data": "The evidence was made for another challenge, key or model: it may be old, or another node’s.",
  "keyset.possession": "It does not hold the key that it names.",
  "keyset.valid_now": "Its keys are not valid now. Is this device’s clock right?",
  "gpu.evidence": "It shows no evidence of a confidential GPU.",
  "report.format": "What it sent is no evidence that this page can read.",
};

/** Why a node was refused, in a sentence. */
export const meaning = ({ id, title, detail }: Check): string => MEANINGS[id] ?? `Not so: ${title}${detail ? ` (${detail})` : ""}.`;
