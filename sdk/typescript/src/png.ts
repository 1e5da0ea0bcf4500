// PNG files of one bit a pixel: black is transparent, white is opaque (ISO/IEC 15948, 11.3.2.1).

import { type Bytes, concat, own, utf8 } from "./bytes.js";

/** An image of `widthPx` × `heightPx` pixels that is transparent where `isTransparent(x, y)` says so. */
export async function oneBit(widthPx: number, heightPx: number, isTransparent: (x: number, y: number) => unknown): Promise<Blob> {
  // Each row begins with its filter, which is none.
  const stride = 1 + Math.ceil(widthPx / 8);
  const rows = new Uint8Array(stride * heightPx);
  for (let y = 0; y < heightPx; y++) {
    for (let x = 0; x < widthPx; x++) if (!isTransparent(x, y)) rows[y * stride + 1 + (x >> 3)] |= 128 >> (x & 7);
  }
  const packed = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate")));
  return new Blob([
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    chunk("IHDR", concat(uint32(widthPx), uint32(heightPx), Uint8Array.of(1, 0, 0, 0, 0))),
    chunk("tRNS", new Uint8Array(2)),
    chunk("IDAT", new Uint8Array(await packed.arrayBuffer())),
    chunk("IEND", new Uint8Array()),
  ], { type: "image/png" });
}

const uint32 = (value: number): Bytes => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);

/** Length, name, data and checksum (5.3). */
function chunk(name: string, data: Uint8Array): Bytes {
  const named = concat(utf8(name), own(data));
  let crc = -1;
  for (const byte of named) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 && 0xedb88320);
  }
  return concat(uint32(data.length), named, uint32(~crc));
}
