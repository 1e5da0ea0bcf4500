// BLAKE2b without a key, with a digest of 32 bytes (RFC 7693). JavaScript has no fast integers of 64 bits: each word is
// two of 32, the lower one first, and an index of one is that of its lower half.

import { type Bytes, concat } from "./bytes.js";

const BLOCK_BYTES = 128;
const DIGEST_BYTES = 32;
const IV = [
  0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19,
];
/** Which words of a block each round mixes in, and in which order (§2.7). Rounds 10 and 11 are 0 and 1 again. */
const SIGMA = [
  "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
  "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
].map((row) => Array.from(row, (digit) => 2 * parseInt(digit, 16)));

/** BLAKE2b-256 of all parts together. */
export function hash(...parts: Uint8Array[]): Bytes {
  const message = concat(...parts);
  const state = Uint32Array.from(IV);
  state[0] ^= 0x01010000 ^ DIGEST_BYTES;
  const words = new DataView(message.buffer);
  const block = new Uint32Array(32);
  let at = 0;
  for (; at + BLOCK_BYTES < message.length; at += BLOCK_BYTES) {
    for (let i = 0; i < 32; i++) block[i] = words.getUint32(at + 4 * i, true);
    compress(state, block, at + BLOCK_BYTES, false);
  }
  const last = new Uint8Array(BLOCK_BYTES);
  last.set(message.subarray(at));
  for (let i = 0; i < 32; i++) block[i] = new DataView(last.buffer).getUint32(4 * i, true);
  compress(state, block, message.length, true);
  const digest = new Uint8Array(DIGEST_BYTES);
  for (let i = 0; i < DIGEST_BYTES / 4; i++) new DataView(digest.buffer).setUint32(4 * i, state[i], true);
  return digest;
}

/** F (§3.2): `end` is how many bytes were hashed with this block. */
function compress(state: Uint32Array, block: Uint32Array, end: number, isLast: boolean): void {
  const v = new Uint32Array(32);
  v.set(state);
  v.set(IV, 16);
  v[24] ^= end;
  v[25] ^= end / 2 ** 32;
  if (isLast) (v[28] ^= -1), (v[29] ^= -1);
  for (let round = 0; round < 12; round++) {
    const order = SIGMA[round % 10];
    for (let i = 0; i < 4; i++) mix(v, 2 * i, 8 + 2 * i, 16 + 2 * i, 24 + 2 * i, block, order[2 * i], order[2 * i + 1]);
    for (let i = 0; i < 4; i++) mix(v, 2 * i, 8 + 2 * ((i + 1) & 3), 16 + 2 * ((i + 2) & 3), 24 + 2 * ((i + 3) & 3), block, order[8 + 2 * i], order[9 + 2 * i]);
  }
  for (let i = 0; i < 16; i++) state[i] ^= v[i] ^ v[16 + i];
}

/** G (§3.1). In local variables, as it takes most of the time. */
function mix(v: Uint32Array, a: number, b: number, c: number, d: number, block: Uint32Array, x: number, y: number): void {
  let al = v[a], bl = v[b], cl = v[c], dl = v[d], ah = v[a + 1], bh = v[b + 1], ch = v[c + 1], dh = v[d + 1];
  let sum = al + bl + block[x];
  ah = (ah + bh + block[x + 1] + carry(sum)) | 0, al = sum | 0;
  [dl, dh] = [dh ^ ah, dl ^ al];
  sum = cl + (dl >>> 0);
  ch = (ch + dh + carry(sum)) | 0, cl = sum | 0;
  bl ^= cl, bh ^= ch;
  [bl, bh] = [(bl >>> 24) | (bh << 8), (bh >>> 24) | (bl << 8)];
  sum = (al >>> 0) + (bl >>> 0) + block[y];
  ah = (ah + bh + block[y + 1] + carry(sum)) | 0, al = sum | 0;
  dl ^= al, dh ^= ah;
  [dl, dh] = [(dl >>> 16) | (dh << 16), (dh >>> 16) | (dl << 16)];
  sum = (cl >>> 0) + (dl >>> 0);
  ch = (ch + dh + carry(sum)) | 0, cl = sum | 0;
  bl ^= cl, bh ^= ch;
  [bl, bh] = [(bl << 1) | (bh >>> 31), (bh << 1) | (bl >>> 31)];
  v[a] = al, v[b] = bl, v[c] = cl, v[d] = dl, v[a + 1] = ah, v[b + 1] = bh, v[c + 1] = ch, v[d + 1] = dh;
}

/** What a sum of lower halves leaves to the upper one; such a sum is exact. */
const carry = (sum: number): number => (sum / 2 ** 32) | 0;
