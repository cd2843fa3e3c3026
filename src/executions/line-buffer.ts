const FIRST_BYTES = 4096;

/** The pieces of a line that has not come to its end: one buffer that doubles, whatever the pieces are. */
export class LineBuffer {
  #bytes = new Uint8Array(0);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(piece: Uint8Array): void {
    if (this.#size + piece.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(FIRST_BYTES, this.#bytes.length * 2, this.#size + piece.length));
      larger.set(this.#bytes.subarray(0, this.#size));
      this.#bytes = larger;
    }
    this.#bytes.set(piece, this.#size);
    this.#size += piece.length;
  }

  /** All pieces with this one as the last, and empties the buffer. */
  take(last: Uint8Array): Uint8Array {
    if (this.#size === 0) return last;
    this.add(last);
    const whole = this.#bytes.subarray(0, this.#size);
    this.#bytes = new Uint8Array(0);
    this.#size = 0;
    return whole;
  }
}
