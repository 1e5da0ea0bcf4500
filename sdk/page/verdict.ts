// What came of a node's evidence, check by check, and in words for people.

import { type Check } from "../typescript/src/index.js";
import { $, element } from "./dom.js";
import { FACTS } from "./words.js";

export function showChecks(checks: Check[]): void {
  const isSimulated = checks.some(({ id }) => id === "simulated.quote");
  const refused = checks.some(({ outcome }) => outcome === "FAIL");
  const fact = (state: string, title: string, says: string): HTMLElement =>
    element("li", { className: state }, element("i"), element("div", {}, element("b", {}, title), says));
  const facts = FACTS.flatMap(({ title, ids, good, bad, open }, index) => {
    const own = checks.filter(({ id }) => ids.test(id));
    // What a simulated guest says of its processor and its code is made up.
    if (own.length === 0 || (isSimulated && index < 2)) return [];
    if (own.some(({ outcome }) => outcome === "FAIL")) return [fact("fail", title, bad)];
    // Of a node that was refused, only what is wrong: the rest rests on nothing.
    if (refused) return [];
    return own.some(({ outcome }) => outcome === "SKIP") ? [fact("skip", title, open ?? "Not all of it was checked.")] : [fact("pass", title, good)];
  });
  if (isSimulated) facts.unshift(fact("fail", "No hardware", "Published keys signed this evidence. It shows how things work, and protects nothing from the operator."));
  $("facts").replaceChildren(...facts);
  $("all").hidden = checks.length === 0;
  const counts = checks.filter(({ outcome }) => outcome === "PASS").length;
  $("all").querySelector("summary")!.textContent = `Every check: ${counts} of ${checks.length} passed`;
  $("checks").replaceChildren(...checks.map((check) => element("li", { className: check.outcome.toLowerCase(), title: check.id },
    element("b", {}, check.outcome), element("span", {}, check.title), ...(check.detail ? [element("code", {}, check.detail)] : []))));
}
