// What the page says while it works: a line, and a bar.

import { RefusedError } from "../typescript/src/index.js";
import { $ } from "./dom.js";

export function meter(percent: number): void {
  $("meter").hidden = false;
  $("meter").setAttribute("aria-valuenow", String(Math.round(percent)));
  $("meter").querySelector("i")!.style.setProperty("--done", `${Math.max(3, percent)}%`);
}

export function say(text: string, isError = false): void {
  $("status").textContent = text;
  $("status").className = isError ? "error" : "";
}

export function reason(error: unknown): string {
  if (error instanceof RefusedError) return error.retryAfter === undefined ? error.reason : `${error.reason} Try again in ${error.retryAfter} s.`;
  const words = error instanceof Error ? error.message : String(error);
  return words.charAt(0).toUpperCase() + words.slice(1);
}
