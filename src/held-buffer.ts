import { AppError } from "./errors.ts";

const FIRST_BYTES = 4096;
/** Most bytes of a buffer that is not counted. */
const UNCOUNTED_BYTES = 64 * 1024;
/**
 * Most bytes of all counted buffers of this process together. Past it the largest is dropped, so that whoever fills many at
 * once loses them, and nobody else does.
 */
export const MAX_HELD_BYTES = 192 * 1024 ** 2;

const counted = new Set<HeldBuffer>();

/**
 * What others send piece by piece and is needed whole: one buffer that doubles, whatever the pieces are. One that has been
 * dropped throws `executor_unavailable`; `clear` it when it is not needed any more.
 */
export class HeldBuffer {
  #bytes = new Uint8Array(0);
  #size = 0;
  #isDropped = false;

  get size(): number {
    return this.#size;
  }

  add(piece: Uint8Array): void {
    if (!this.#isDropped && this.#size + piece.length > this.#bytes.length) this.#grow(this.#size + piece.length);
    if (this.#isDropped)
      throw new AppError("executor_unavailable", "there is no room for what it sends", { retryAfterS: 1 });
    this.#bytes.set(piece, this.#size);
    this.#size += piece.length;
  }

  /** All pieces with this one as the last, and empties the buffer. */
  take(last: Uint8Array): Uint8Array {
    if (this.#size === 0 && !this.#isDropped) return last;
    this.add(last);
    const whole = this.#bytes.subarray(0, this.#size);
    this.clear();
    return whole;
  }

  clear(): void {
    this.#bytes = new Uint8Array(0);
    this.#size = 0;
    counted.delete(this);
  }

  #grow(least: number): void {
    const length = Math.max(FIRST_BYTES, this.#bytes.length * 2, least);
    if (length > UNCOUNTED_BYTES) this.#claim(length);
    if (this.#isDropped) return;
    const larger = new Uint8Array(length);
    larger.set(this.#bytes.subarray(0, this.#size));
    this.#bytes = larger;
  }

  #claim(length: number): void {
    counted.add(this);
    const lengthOf = (one: HeldBuffer): number => (one === this ? length : one.#bytes.length);
    let held = [...counted].reduce((sum, one) => sum + lengthOf(one), 0);
    while (held > MAX_HELD_BYTES) {
      const largest = [...counted].reduce((a, b) => (lengthOf(a) >= lengthOf(b) ? a : b), this);
      held -= lengthOf(largest);
      largest.clear();
      largest.#isDropped = true;
      collectSoon();
    }
  }
}

let isCollecting = false;

/** What was dropped counts against this process until it is collected, which the runtime may put off. */
function collectSoon(): void {
  if (isCollecting) return;
  isCollecting = true;
  setImmediate(() => {
    isCollecting = false;
    Bun.gc(true);
  });
}
