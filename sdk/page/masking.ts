// The editor of masks: a user paints over a picture what of it may change. It reads and sends nothing.

import { $, element, input } from "./dom.js";
import { Painting } from "./painting.js";

/** A dab of it meets the middle of at least one of the model's squares of 16 pixels, wherever it is. */
const LEAST_RADIUS = 12;
/** Stripes are seen on pictures of any colour. As ABGR. */
const STRIPES = [0xb02a6aff, 0x8c2a0a1e];
/** An entry of EXIF that says which way up an image is. A node reads it in all formats, a browser for certain in JPEG alone. */
const TURNED = /\x12\x01\x03\0\x01\0\0\0[\x02-\x08]|\x01\x12\0\x03\0\0\0\x01\0[\x02-\x08]/;

let painting = new Painting(1, 1);
/** Where the brush is, in cells. */
let spot: [number, number] = [0, 0];
let erasing = false;
let isDue = false;
let shown = (): void => undefined;

const canvas = $<HTMLCanvasElement>("mask");
const under = $<HTMLImageElement>("under");
const ring = $("ring");
const radius = input("radius");

/** Takes a picture and what of it may change until now; `onShown` is told whenever that looks other. Throws where the browser cannot read it. */
export async function edit(picture: Blob, before: Painting | undefined, onShown: () => void): Promise<Painting> {
  const isJpeg = picture.type === "image/jpeg";
  if (!isJpeg && TURNED.test(new TextDecoder("latin1").decode(await picture.arrayBuffer()))) throw new Error("This file is turned by its EXIF. Save it upright, or as JPEG, to paint a mask.");
  const { naturalWidth, naturalHeight } = await read(under, picture);
  painting = before ?? new Painting(naturalWidth, naturalHeight);
  shown = onShown;
  const { columns, rows } = painting;
  [canvas.width, canvas.height] = [columns, rows];
  const longer = Math.max(columns, rows);
  radius.min = String(LEAST_RADIUS);
  radius.max = String(Math.max(2 * LEAST_RADIUS, longer >> 2));
  radius.value = String(longer >> 4);
  $("board").style.setProperty("--ratio", String(naturalWidth / naturalHeight));
  use(false);
  move([columns / 2, rows / 2]);
  paint();
  return painting;
}

/** Takes a mask's file, where it is as large as the picture: what has an alpha below 128 may change, as a node reads it. */
export async function load(file: Blob): Promise<void> {
  const own = painting;
  const { widthPx, heightPx, columns, rows } = own;
  const image = await read(element("img"), file);
  const { naturalWidth, naturalHeight } = image;
  if (naturalWidth !== widthPx || naturalHeight !== heightPx) throw new Error(`This mask has ${naturalWidth} × ${naturalHeight} pixels, and the image ${widthPx} × ${heightPx}.`);
  const context = element("canvas", { width: columns, height: rows }).getContext("2d")!;
  context.drawImage(image, 0, 0, columns, rows);
  const { data } = context.getImageData(0, 0, columns, rows);
  const cells = own.cells.map((_, index) => Number(data[4 * index + 3] < 128));
  if (!cells.includes(1)) throw new Error("This mask is transparent nowhere: where it is, the image changes.");
  // Meanwhile there may be another picture.
  if (own === painting) change(cells);
}

async function read(image: HTMLImageElement, file: Blob): Promise<HTMLImageElement> {
  image.src = URL.createObjectURL(file);
  await image.decode().finally(() => URL.revokeObjectURL(image.src));
  return image;
}

/** A step that can be undone. */
function change(cells: Uint8Array): void {
  painting.remember();
  painting.cells = cells;
  paint();
}

/** Shows what is painted, with the next frame. */
function paint(): void {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    const { cells, columns, rows } = painting;
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const stripe = Math.max(4, Math.max(columns, rows) >> 6);
    for (let y = 0, at = 0; y < rows; y++) for (let x = 0; x < columns; x++, at++) if (cells[at]) pixels[at] = STRIPES[Math.floor((x + y) / stripe) & 1];
    canvas.getContext("2d")!.putImageData(image, 0, 0);
    shown();
  });
}

function use(eraser: boolean): void {
  erasing = eraser;
  $("brush").ariaPressed = String(!eraser);
  $("eraser").ariaPressed = String(eraser);
}

/** Moves the brush, and paints on the way where it is down. */
function move([x, y]: [number, number], isDown = false): void {
  const { columns, rows } = painting;
  if (isDown) {
    painting.stroke(spot, [x, y], Number(radius.value), erasing ? 0 : 1);
    paint();
  }
  spot = [x, y];
  ring.style.left = `${(100 * x) / columns}%`;
  ring.style.top = `${(100 * y) / rows}%`;
  ring.style.width = `${(200 * Number(radius.value)) / columns}%`;
}

// --- What the user does: by mouse, finger or pen, whose other end erases; or by keys.

const ERASER_DOWN = 32;
let pointer: number | undefined;

function at({ clientX, clientY }: PointerEvent): [number, number] {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  return [((clientX - left) * painting.columns) / width, ((clientY - top) * painting.rows) / height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.buttons & ~(1 | ERASER_DOWN)) return;
  // A second finger zooms: what the first has painted until then was no stroke.
  if (pointer !== undefined) return lift(true);
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  if (event.buttons & ERASER_DOWN) use(true);
  painting.remember();
  spot = at(event);
  move(spot, true);
});
canvas.addEventListener("pointermove", (event) => {
  if (pointer === undefined || pointer === event.pointerId) move(at(event), pointer !== undefined);
});
canvas.addEventListener("pointerup", () => lift(false));
canvas.addEventListener("pointercancel", () => lift(true));

function lift(isUndone: boolean): void {
  if (pointer === undefined) return;
  pointer = undefined;
  if (isUndone) undo();
}

canvas.addEventListener("keydown", (event) => {
  const { key, shiftKey, repeat } = event;
  const step = Math.max(1, Number(radius.value) / 2);
  const [dx, dy] = ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] } as Record<string, [number, number]>)[key] ?? [];
  if (dx === undefined) return;
  event.preventDefault();
  const { columns, rows } = painting;
  const isDown = shiftKey || key === " ";
  // A key that is held makes one step.
  if (isDown && !repeat) painting.remember();
  move([Math.min(columns, Math.max(0, spot[0] + dx * step)), Math.min(rows, Math.max(0, spot[1] + dy * step))], isDown);
});
$("masking").addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key !== "z") return;
  // Else the browser would undo what was written last, too.
  event.preventDefault();
  undo();
});

function undo(): void {
  painting.undo();
  paint();
}

radius.addEventListener("input", () => move(spot));
$("brush").addEventListener("click", () => use(false));
$("eraser").addEventListener("click", () => use(true));
$("undo").addEventListener("click", undo);
$("invert").addEventListener("click", () => change(painting.cells.map((cell) => 1 - cell)));
$("clear").addEventListener("click", () => change(painting.cells.map(() => 0)));
