import { decodeOutput, incompleteTail } from "./utf8.ts";

const EMPTY = new Uint8Array(0);

/** One output stream of an execution on its way into the journal: counts its bytes and never splits a character. */
export class OutputStream {
  /** Bytes that the program wrote. */
  totalBytes = 0;
  /** Set when the journal's limit was reached: what comes after is counted and dropped. */
  cut = false;
  #offset = 0;
  #carry = EMPTY;

  /** JSON of the entry for the next bytes (without the braces' `at`), or null while they are less than a character. */
  encode(bytes: Uint8Array, at: string): string | null {
    const all = this.#carry.length === 0 ? bytes : Buffer.concat([this.#carry, bytes]);
    const tail = incompleteTail(all);
    this.#carry = tail === 0 ? EMPTY : all.slice(all.length - tail);
    return this.#json(tail === 0 ? all : all.subarray(0, all.length - tail), at);
  }

  /** JSON of the entry for the beginning of a character that never got its end; null when there is none. */
  encodeRest(at: string): string | null {
    const rest = this.#carry;
    this.#carry = EMPTY;
    return this.#json(rest, at);
  }

  #json(bytes: Uint8Array, at: string): string | null {
    if (bytes.length === 0) return null;
    const { text, exact } = decodeOutput(bytes);
    const offset = this.#offset;
    this.#offset += bytes.length;
    const data = exact ? "" : `,"data":"${bytes.toBase64()}"`;
    return `{"text":${JSON.stringify(text)}${data},"offset":${offset},"at":"${at}"}`;
  }
}
