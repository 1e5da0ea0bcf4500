// Masks: what of an edit's first image is drawn anew, as a PNG that is transparent there.

import { ConfigurationError } from "./errors.js";
import { oneBit } from "./png.js";

/** Left, top, right and bottom in pixels; right and bottom are outside of it. */
export type Box = readonly [number, number, number, number];

const MAX_SIDE_PX = 16_384;

/**
 * A mask for an image of this size, the right way up: transparent in `redrawn`, which is drawn anew, and opaque elsewhere.
 * `redrawn` is rectangles, or one byte a pixel, row by row, that is 0 where the image is kept. Throws `ConfigurationError`
 * where that does not fit the size.
 */
export async function mask(widthPx: number, heightPx: number, redrawn: readonly Box[] | Uint8Array): Promise<File> {
  const isSide = (side: number): boolean => Number.isInteger(side) && side > 0 && side <= MAX_SIDE_PX;
  if (!isSide(widthPx) || !isSide(heightPx)) throw new ConfigurationError(`the sides of a mask have from 1 to ${MAX_SIDE_PX} pixels`);
  if (redrawn instanceof Uint8Array) {
    if (redrawn.length !== widthPx * heightPx) throw new ConfigurationError(`${redrawn.length} bytes are not one for each of ${widthPx}×${heightPx} pixels`);
    return file(oneBit(widthPx, heightPx, (x, y) => redrawn[y * widthPx + x]));
  }
  for (const box of redrawn) {
    const [left, top, right, bottom] = box;
    const fits = 0 <= left && left < right && right <= widthPx && 0 <= top && top < bottom && bottom <= heightPx;
    if (!fits || !box.every(Number.isInteger)) throw new ConfigurationError(`[${box}] is no rectangle inside of ${widthPx}×${heightPx} pixels`);
  }
  return file(oneBit(widthPx, heightPx, (x, y) => redrawn.some(([left, top, right, bottom]) => left <= x && x < right && top <= y && y < bottom)));
}

/** OpenAI's client takes files alone. */
const file = async (png: Promise<Blob>): Promise<File> => new File([await png], "mask.png", { type: "image/png" });
