// What of a picture may change, as it is painted. No canvas holds it: browsers that protect against fingerprinting do not
// let one be read back as it was written.

import { oneBit } from "../typescript/src/png.js";

/** As much as a model reads of a picture, in pixels: what is finer would not be seen. */
const MOST_CELLS = 1 << 20;
const MOST_STEPS = 30;

type Point = readonly [number, number];

export class Painting {
  readonly columns: number;
  readonly rows: number;
  /** (rows, columns), row by row: 1 where the picture may change. Each is a pixel, or more than one of a large picture. */
  cells: Uint8Array;
  #past: Uint8Array[] = [];

  constructor(readonly widthPx: number, readonly heightPx: number) {
    const scale = Math.min(1, Math.sqrt(MOST_CELLS / (widthPx * heightPx)));
    this.columns = Math.ceil(widthPx * scale);
    this.rows = Math.ceil(heightPx * scale);
    this.cells = new Uint8Array(this.columns * this.rows);
  }

  /** How much may change, 0 to 1. */
  get share(): number {
    return this.cells.reduce((sum, cell) => sum + cell, 0) / this.cells.length;
  }

  /** What comes now can be undone. */
  remember(): void {
    this.#past.push(this.cells.slice());
    if (this.#past.length > MOST_STEPS) this.#past.shift();
  }

  undo(): void {
    this.cells = this.#past.pop() ?? this.cells;
  }

  /** Sets every cell whose middle is at most `radius` cells from a line. */
  stroke([fromX, fromY]: Point, [toX, toY]: Point, radius: number, value: 0 | 1): void {
    const [dx, dy] = [toX - fromX, toY - fromY];
    const length = dx * dx + dy * dy || 1;
    const bottom = Math.min(this.rows - 1, Math.max(fromY, toY) + radius);
    const right = Math.min(this.columns - 1, Math.max(fromX, toX) + radius);
    for (let y = Math.max(0, Math.floor(Math.min(fromY, toY) - radius)); y <= bottom; y++) {
      for (let x = Math.max(0, Math.floor(Math.min(fromX, toX) - radius)); x <= right; x++) {
        const [px, py] = [x + 0.5 - fromX, y + 0.5 - fromY];
        const along = Math.min(1, Math.max(0, (px * dx + py * dy) / length));
        if ((px - along * dx) ** 2 + (py - along * dy) ** 2 <= radius * radius) this.cells[y * this.columns + x] = value;
      }
    }
  }

  /** The mask, as large as the picture. */
  png(): Promise<Blob> {
    const { widthPx, heightPx, columns, rows, cells } = this;
    return oneBit(widthPx, heightPx, (x, y) => cells[Math.floor((y * rows) / heightPx) * columns + Math.floor((x * columns) / widthPx)]);
  }
}
