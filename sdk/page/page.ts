// The page: what it shows, and nothing that decides. Whom to trust, and what to send, is the SDK's.

import { type ImageEvent, type ModelInfo, type Obscura, NodeUntrustedError, connect } from "../typescript/src/index.js";
import { $, element, input } from "./dom.js";
import { edit, load } from "./masking.js";
import { type Painting } from "./painting.js";
import { meter, reason, say } from "./status.js";
import { showChecks } from "./verdict.js";
import { meaning } from "./words.js";

const PLACEHOLDER = $<HTMLTextAreaElement>("prompt").placeholder;
const SIZES = ["auto", "1024x1024", "1344x768", "768x1344", "1152x896", "896x1152", "512x512", "256x256"];

interface Picture {
  url: string;
  blob: Blob;
  seed: number | undefined;
  prompt: string;
  format: string;
  thumb: HTMLButtonElement;
}

let client: Obscura | undefined;
let working: AbortController | undefined;
let shown: Picture[] = [];
const made: Picture[][] = [];
/** What the next picture is drawn from, beside the prompt; and how many of them the model takes. */
let inputs: Blob[] = [];
let mostInputs = 0;
/** What of the first of them may change. */
let painting: Painting | undefined;
/** The node's models, as it tells them; and the name that this page filled in, rather than the user. */
let models: ModelInfo[] = [];
let suggested: string | undefined;

// --- The node, and its verdict.

type State = "idle" | "asking" | "trusted" | "demo" | "refused";

function setState(state: State, headline: string, summary: string): void {
  document.body.dataset.state = state;
  $("badge").setAttribute("href", { idle: "#i-shield", asking: "#i-shield", trusted: "#i-pass", demo: "#i-demo", refused: "#i-fail" }[state]);
  $("headline").textContent = $("pill-text").textContent = headline;
  $("summary").textContent = summary;
  $<HTMLButtonElement>("send").disabled = client === undefined;
}

function stage(part: "intro" | "refused" | "easel" | "masking"): void {
  for (const id of ["intro", "refused", "easel", "masking"]) $(id).hidden = id !== part;
  $("caption").hidden = part !== "easel" || shown.length === 0;
}

/** What stands there when nothing else does. */
const rest = (): void => stage(shown.length > 0 ? "easel" : "intro");

async function verifyNode(): Promise<void> {
  working?.abort();
  client = undefined;
  const acceptSimulated = input("simulated").checked;
  setState("asking", "Asking for evidence…", "The node has to answer a fresh challenge. Nothing else is sent.");
  showChecks([]);
  const button = $<HTMLButtonElement>("connect");
  button.disabled = true;
  try {
    const candidate = await connect(input("url").value.trim(), { acceptSimulated, apiKey: input("key").value || undefined });
    const { checks, platform } = candidate.appraisal!;
    const told = await described(candidate);
    client = candidate;
    showChecks(checks);
    const isDemo = platform === "simulated";
    ({ models } = told);
    if (["", suggested].includes(input("model").value)) input("model").value = suggested = models[0]?.id ?? (isDemo ? "obscura/demo" : "black-forest-labs/FLUX.1-schnell");
    takeInputs();
    setState(isDemo ? "demo" : "trusted", isDemo ? "Sealed, but not protected" : "Verified",
      isDemo ? "A demonstration: everything is checked and sealed, and no hardware stands behind it." : `${platform === "snp" ? "AMD SEV-SNP" : "Intel TDX"} vouches for what runs there. Its operator cannot read your prompt.`);
    rest();
    $<HTMLDetailsElement>("node-details").open = false;
    $("prompt").focus();
  } catch (error) {
    refuse(error);
  } finally {
    button.disabled = false;
  }
}

/** What the node says of itself. The verdict does not wait long for it: who hangs here would hold it back. */
async function described(candidate: Obscura): Promise<{ models: ModelInfo[] }> {
  const nothing = { models: [] };
  const late = new Promise<typeof nothing>((resolve) => setTimeout(() => resolve(nothing), 3000));
  return Promise.race([candidate.info().catch(() => nothing), late]);
}

function refuse(error: unknown): void {
  client = undefined;
  if (!(error instanceof NodeUntrustedError)) {
    setState("idle", "No verdict", reason(error));
    return;
  }
  const failing = error.checks.filter(({ outcome }) => outcome === "FAIL");
  showChecks(error.checks);
  setState("refused", "Refused", "The node did not prove itself. Nothing was sent to it.");
  $("reasons").replaceChildren(...failing.slice(0, 5).map((check) => element("li", {}, meaning(check))));
  if (failing.length > 5) $("reasons").append(element("li", {}, `and ${failing.length - 5} more`));
  stage("refused");
}

// --- Input images.

/** The model that draws from images: the one that the user names, else the node's first that takes any. */
function editing(): ModelInfo | undefined {
  const named = input("model").value.trim();
  const own = named === suggested ? undefined : models.find(({ id }) => id === named);
  return own ?? models.find(({ inputImages }) => inputImages > 0);
}

/** The model of the next picture. */
function chosenModel(): string {
  const named = input("model").value.trim() || (suggested ?? "");
  return inputs.length > 0 && named === suggested ? (editing()?.id ?? named) : named;
}

/** How many images may be given. Those that are there already stay, if they may. */
function takeInputs(): void {
  mostInputs = editing()?.inputImages ?? 0;
  $("inputs").hidden = $("edit").hidden = mostInputs === 0;
  give(inputs.slice(0, mostInputs));
}

function give(images: Blob[]): void {
  // A mask is for one image.
  if (images[0] !== inputs[0]) {
    painting = undefined;
    if (!$("masking").hidden) rest();
  }
  inputs = images;
  $("given").replaceChildren(...images.map((image, index) => {
    const picture = element("img", { src: URL.createObjectURL(image), alt: `Input image ${index + 1}` });
    const remove = element("button", { type: "button", title: "Remove", ariaLabel: `Remove input image ${index + 1}` }, "×");
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
    remove.addEventListener("click", () => give(inputs.filter((one) => one !== image)));
    return element("li", {}, picture, ...(index === 0 ? [element("canvas")] : []), remove);
  }));
  showMask();
}

/** How much of the first image may change, where something is painted; and where, on its thumbnail. */
function showMask(): void {
  const share = painting?.share ?? 0;
  const percent = `${Math.ceil(100 * share)} %`;
  $("share").textContent = share > 0 ? `${percent} so far.` : "The rest is kept.";
  $("paint").textContent = share > 0 ? `Mask: ${percent}` : "Paint what may change";
  $("paint").hidden = inputs.length === 0;
  $<HTMLTextAreaElement>("prompt").placeholder = inputs.length > 0 ? "The same at dawn, with the lamp lit" : PLACEHOLDER;
  $<HTMLSelectElement>("size").disabled = share > 0;
  if (share > 0) input("size").value = "auto";
  $("size").title = share > 0 ? "Under a mask, as large as the first image" : "";
  const [small, whole] = [$("given").querySelector("canvas"), $<HTMLCanvasElement>("mask")];
  if (small === null || painting === undefined) return;
  [small.width, small.height] = [whole.width, whole.height];
  small.getContext("2d")!.drawImage(whole, 0, 0);
}

async function openMask(): Promise<void> {
  const [first] = inputs;
  try {
    const opened = await edit(first, painting, showMask);
    if (first !== inputs[0] || working !== undefined) return;
    painting = opened;
    say("");
    stage("masking");
    $("mask").focus();
  } catch (error) {
    say(reason(error), true);
  }
}

function add(files: Iterable<Blob>): void {
  const images = [...files].filter(({ type }) => /^image\/(png|jpeg|webp)$/.test(type));
  const room = mostInputs - inputs.length;
  if (client === undefined) return say("Verify a node first.", true);
  if (mostInputs === 0) return say("This node's model draws from words alone.", true);
  if (images.length === 0) return say("An image is a PNG, JPEG or WebP file.", true);
  say(images.length > room ? `This model takes ${mostInputs} images at most.` : "", true);
  give([...inputs, ...images.slice(0, room)]);
}

// --- Drawing.

async function draw(): Promise<void> {
  if (client === undefined || working !== undefined) return;
  const prompt = $<HTMLTextAreaElement>("prompt").value.trim();
  if (prompt === "") return $("prompt").focus();
  const count = Number(input("count").value);
  const seed = input("seed").value === "" ? undefined : Number(input("seed").value);
  const steps = Number(input("steps").value);
  const controller = (working = new AbortController());
  busy(true);
  const mask = painting?.share ? painting : undefined;
  // Under a mask it is as large as its first image, and no other size is taken.
  const size = mask === undefined ? input("size").value : "auto";
  const frames = Array.from({ length: count }, () => frame(size));
  $("easel").replaceChildren(...frames.map(({ box }) => box));
  $("easel").dataset.count = String(count);
  shown = [];
  stage("easel");
  meter(0);
  say("Sealing…");
  const pictures: Picture[] = [];
  try {
    const request = {
      model: chosenModel(), prompt, n: count, size, steps, seed, partial_images: 3, progress: true,
      images: inputs.length > 0 ? inputs : undefined, mask: await mask?.png(),
    };
    for await (const event of client.stream(request, { signal: controller.signal })) show(event, frames, pictures, prompt);
    say("");
  } catch (error) {
    frames.forEach(({ box }) => box.classList.add("stopped"));
    say(controller.signal.aborted ? "Stopped." : reason(error), !controller.signal.aborted);
    if (error instanceof NodeUntrustedError) refuse(error);
    else if (pictures.length === 0 && made.length > 0) select(made.at(-1)!);
    else if (pictures.length === 0) stage("intro");
  } finally {
    // What came before it was stopped is whole, and checked.
    if (pictures.length > 0) keep(pictures);
    working = undefined;
    busy(false);
    $("meter").hidden = true;
  }
}

interface Frame {
  box: HTMLElement;
  url?: string;
}

function frame(size: string): Frame {
  const like = $("given").querySelector("img");
  const [width, height] = size !== "auto" ? size.split("x").map(Number) : like?.naturalWidth ? [like.naturalWidth, like.naturalHeight] : [1, 1];
  const box = element("figure", { className: "waiting" });
  box.style.aspectRatio = `${width} / ${height}`;
  box.style.setProperty("--ratio", String(width / height));
  return { box };
}

function show(event: ImageEvent, frames: Frame[], pictures: Picture[], prompt: string): void {
  if (event.type.endsWith(".progress")) {
    const { step = 0, steps = 1 } = event;
    meter((100 * step) / steps);
    return say(step === 0 ? "Sealed and sent. Waiting for a place…" : `Step ${step} of ${steps}`);
  }
  const { b64_json, index = 0 } = event;
  const target = frames[index];
  if (target === undefined || typeof b64_json !== "string") return;
  const isLast = event.type.endsWith(".completed");
  const format = String(event.output_format ?? "png");
  const blob = new Blob([Uint8Array.from(atob(b64_json), (character) => character.charCodeAt(0))], { type: `image/${format}` });
  const url = URL.createObjectURL(blob);
  const image = element("img", { src: url, alt: isLast ? prompt : "A preview", decoding: "async" });
  image.className = isLast ? "final" : `preview p${event.partial_image_index ?? 0}`;
  const before = [...target.box.children];
  const old = target.url;
  target.url = url;
  image.addEventListener("load", () => {
    target.box.classList.remove("waiting");
    target.box.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
    target.box.style.setProperty("--ratio", String(image.naturalWidth / image.naturalHeight));
    // The picture before stays under the new one until that has faded in.
    setTimeout(() => {
      before.forEach((one) => one.remove());
      if (old !== undefined) URL.revokeObjectURL(old);
    }, 700);
  });
  target.box.append(image);
  if (!isLast) return say(`Sharpening: preview ${(event.partial_image_index ?? 0) + 1}`);
  const thumb = element("button", { type: "button", title: prompt }, element("img", { src: url, alt: prompt }));
  pictures.push({ url, blob, seed: event.seed, prompt, format, thumb });
}

/** Adds what was made to the strip. */
function keep(pictures: Picture[]): void {
  made.push(pictures);
  for (const picture of pictures) {
    // By itself, and with its siblings again.
    picture.thumb.addEventListener("click", () => select(shown.length === 1 && shown[0] === picture ? pictures : [picture]));
    $("strip").prepend(picture.thumb);
  }
  select(pictures, false);
}

/** Shows pictures that were made, unless they are what stands there already. */
function select(pictures: Picture[], anew = true): void {
  shown = pictures;
  if (anew) {
    $("easel").replaceChildren(...pictures.map(({ url, prompt }) => {
      const image = element("img", { src: url, alt: prompt, className: "final" });
      const { box } = frame("auto");
      box.className = "";
      image.addEventListener("load", () => {
        box.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
        box.style.setProperty("--ratio", String(image.naturalWidth / image.naturalHeight));
      });
      box.append(image);
      return box;
    }));
    $("easel").dataset.count = String(pictures.length);
    stage("easel");
  }
  for (const picture of made.flat()) picture.thumb.ariaCurrent = String(pictures.includes(picture));
  const [{ seed, prompt }] = pictures;
  $("receipt").querySelector("span")!.textContent = `Seed ${seed ?? "?"} · receipt checked: the attested code made this, with the attested model`;
  $("receipt").title = prompt;
  $("caption").hidden = $("easel").hidden;
}

function download(): void {
  for (const { url, seed, format } of shown) element("a", { href: url, download: `obscura-${seed ?? "image"}.${format === "jpeg" ? "jpg" : format}` }).click();
}

function busy(is: boolean): void {
  document.body.classList.toggle("busy", is);
  $("send-icon").setAttribute("href", is ? "#i-stop" : "#i-send");
  $("send-label").textContent = is ? "Stop" : "Draw";
  $<HTMLButtonElement>("paint").disabled = is;
  $<HTMLButtonElement>("send").disabled = client === undefined && !is;
}

// --- What the user does.

$("size").append(...SIZES.map((size) => element("option", { value: size }, size === "auto" ? "Auto" : size.replace("x", " × "))));
$("node").addEventListener("submit", (event) => (event.preventDefault(), void verifyNode()));
$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  if (working === undefined) void draw();
  else working.abort();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  void draw();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  working?.abort();
  if (!$("masking").hidden) $("done").click();
});
$("download").addEventListener("click", download);
$("edit").addEventListener("click", () => {
  give(shown.map(({ blob }) => blob).slice(0, mostInputs));
  $("prompt").focus();
});
input("model").addEventListener("change", takeInputs);
input("file").addEventListener("change", () => {
  add(input("file").files!);
  input("file").value = "";
});
$("begin").addEventListener("click", () => {
  $<HTMLDetailsElement>("node-details").open = true;
  input("url").focus();
});
// By a script, since an address that was followed would take the place of the node's.
$("pill").addEventListener("click", () => $("verdict").scrollIntoView());
$("paint").addEventListener("click", () => void openMask());
$("done").addEventListener("click", () => {
  rest();
  $("paint").focus();
});
input("mask-file").addEventListener("change", () => {
  const [file] = input("mask-file").files!;
  input("mask-file").value = "";
  load(file).then(() => say(""), (error) => say(reason(error), true));
});
document.addEventListener("paste", (event) => {
  const files = event.clipboardData?.files ?? [];
  if (files.length === 0) return;
  event.preventDefault();
  add(files);
});
// Else the browser would leave this page for the file.
for (const type of ["dragover", "drop"] as const) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer!.types.includes("Files")) return;
    event.preventDefault();
    if (type === "drop") add(event.dataTransfer!.files);
  });
}
$("again").addEventListener("click", () => {
  const [{ seed, prompt }] = shown;
  input("seed").value = String(seed ?? "");
  $<HTMLTextAreaElement>("prompt").value = prompt;
  $("prompt").focus();
});
for (const id of ["url", "key", "simulated"]) {
  $(id).addEventListener("input", () => {
    if (client === undefined) return;
    client = undefined;
    models = [];
    takeInputs();
    setState("idle", "Another node", "It is not verified yet.");
    showChecks([]);
  });
}

// A link may name a node: obscura.html#node=http://127.0.0.1:8080&demo
const named = new URLSearchParams(location.hash.slice(1));
const own = location.protocol === "http:" || location.protocol === "https:" ? location.origin : "";
input("url").value = named.get("node") ?? own;
input("model").value = named.get("model") ?? "";
// A link may not make a stranger's simulated node acceptable: this machine's own alone.
input("simulated").checked = named.has("demo") && /^https?:\/\/(localhost|127(\.\d+){3}|\[::1\])(:\d+)?\/?$/.test(input("url").value);
if (input("url").value !== "" && named.has("node")) void verifyNode();
