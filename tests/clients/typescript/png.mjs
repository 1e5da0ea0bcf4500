// PNG files of tests: written as RGBA, and those of one bit a pixel read.

import assert from "node:assert/strict";
import { crc32, deflateSync, inflateSync } from "node:zlib";

/** A file of width × height pixels, each `[red, green, blue, alpha]` by `of(x, y)`. */
export function png(width, height, of) {
  const stride = 1 + 4 * width;
  const rows = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) rows.set(of(x, y), y * stride + 1 + 4 * x);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 6], 8);
  const chunks = [["IHDR", header], ["IDAT", deflateSync(rows)], ["IEND", Buffer.alloc(0)]];
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), ...chunks.map(([name, data]) => chunk(name, data))]);
}

/** A mask's file of the usual kind: transparent where `isRedrawn(x, y)`. */
export const rgbaMask = (width, height, isRedrawn) => png(width, height, (x, y) => [0, 0, 0, isRedrawn(x, y) ? 0 : 255]);

export function chunk(name, data) {
  const named = Buffer.concat([Buffer.from(name), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, sum]);
}

/** Reads a file of one bit of grey whose black is transparent: its sides, and whether a pixel is transparent. */
export function readOneBit(file) {
  const chunks = {};
  for (let at = 8; at < file.length; ) {
    const [length, name] = [file.readUInt32BE(at), file.subarray(at + 4, at + 8).toString()];
    const data = file.subarray(at + 8, at + 8 + length);
    assert.deepEqual(file.subarray(at, at + 12 + length), chunk(name, data), `${name}, whole`);
    chunks[name] = data;
    at += 12 + length;
  }
  const { IHDR, tRNS, IDAT } = chunks;
  const [width, height] = [IHDR.readUInt32BE(0), IHDR.readUInt32BE(4)];
  assert.deepEqual([[...IHDR.subarray(8)], [...tRNS]], [[1, 0, 0, 0, 0], [0, 0]]);
  const [rows, stride] = [inflateSync(IDAT), 1 + Math.ceil(width / 8)];
  assert.equal(rows.length, stride * height);
  return { width, height, isTransparent: (x, y) => (rows[y * stride + 1 + (x >> 3)] & (128 >> (x & 7))) === 0 };
}
