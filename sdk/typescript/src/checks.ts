// What is looked at, and how it came out. Ids and titles are those of `obscura verify`.

import { printable } from "./bytes.js";
import { TITLES } from "./data.js";

export type Outcome = "PASS" | "FAIL" | "SKIP" | "INFO";

/** One line of a verdict. */
export interface Check {
  id: CheckId;
  title: string;
  outcome: Outcome;
  /** What was found, fit to be shown: whatever a peer sent is escaped. */
  detail: string;
}

export { TITLES };

export type CheckId = keyof typeof TITLES;

/** The checks of one appraisal, in the order in which they were made. */
export class Checks {
  readonly all: Check[] = [];

  pass(id: CheckId, detail = ""): void {
    this.#add(id, "PASS", detail);
  }
  fail(id: CheckId, detail = ""): void {
    this.#add(id, "FAIL", detail);
  }
  skip(id: CheckId, detail = ""): void {
    this.#add(id, "SKIP", detail);
  }
  info(id: CheckId, detail = ""): void {
    this.#add(id, "INFO", detail);
  }
  /** Passes where it holds, with what was found either way. */
  expect(id: CheckId, holds: boolean, detail = ""): void {
    this.#add(id, holds ? "PASS" : "FAIL", detail);
  }
  /** The policy's rule, or a refusal: what the policy does not speak of does not pass. */
  rule<T>(id: CheckId, rule: T | undefined): T | undefined {
    if (rule === undefined) this.fail(id, "the policy has no rule for this");
    return rule;
  }
  /** A value against an allow-list. */
  oneOf(id: CheckId, rule: "any" | readonly string[] | undefined, value: string, found = value): void {
    const allowed = this.rule(id, rule);
    if (allowed === "any") this.skip(id, `${found}; the policy takes any`);
    else if (allowed !== undefined) this.expect(id, allowed.includes(value), found);
  }
  /** A property that a policy may permit. */
  permitted(id: CheckId, rule: "allow" | "refuse" | undefined, found: boolean): void {
    if (this.rule(id, rule) !== undefined) this.expect(id, !found || rule === "allow", found ? "on" : "off");
  }
  get failing(): CheckId[] {
    return this.all.filter((check) => check.outcome === "FAIL").map((check) => check.id);
  }

  #add(id: CheckId, outcome: Outcome, detail: string): void {
    this.all.push({ id, title: TITLES[id], outcome, detail: printable(detail) });
  }
}
