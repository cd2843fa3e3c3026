const SPACES = new Set([0x20, 0x09, 0x0a, 0x0d]);
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OBJECT_END = 0x7d;
/** What may follow a backslash, but for `u` and its four digits. */
const ESCAPED = new Set(Array.from('"\\/bfnrt', (character) => character.charCodeAt(0)));
const HEX = /[\dA-Fa-f]{4}/y;
const MINUS = 0x2d;
const ZERO = 0x30;
const WORDS = ["true", "false", "null"];

/** Counts the objects and lists in a JSON text, and makes nothing of them. Throws SyntaxError when it is not JSON. */
export function containersIn(text: string): number {
  return new Scan(text).run();
}

/** One pass over a text. `#closers` has the end of each object and list that is open. */
class Scan {
  readonly #text: string;
  #at = 0;
  #closers: number[] = [];
  #count = 0;

  constructor(text: string) {
    this.#text = text;
  }

  run(): number {
    this.#space();
    do {
      if (this.#value()) this.#afterValue();
    } while (this.#closers.length > 0);
    if (this.#at < this.#text.length) this.#fail();
    return this.#count;
  }

  /** Takes a value, or the beginning of an object or list that has something in it: false then. */
  #value(): boolean {
    const code = this.#text.charCodeAt(this.#at);
    if (code === 0x5b || code === 0x7b) return this.#open(code + 2);
    if (code === QUOTE) this.#string();
    else if (code <= 0x39) this.#number();
    else this.#word();
    this.#space();
    return true;
  }

  #open(closer: number): boolean {
    this.#count += 1;
    this.#at += 1;
    this.#space();
    if (this.#text.charCodeAt(this.#at) === closer) {
      this.#at += 1;
      this.#space();
      return true;
    }
    this.#closers.push(closer);
    if (closer === OBJECT_END) this.#name();
    return false;
  }

  /** Takes what is closed, and the comma before the next value, with its name in an object. */
  #afterValue(): void {
    for (;;) {
      const closer = this.#closers.at(-1);
      if (closer === undefined) return;
      const code = this.#text.charCodeAt(this.#at);
      this.#at += 1;
      this.#space();
      if (code === COMMA) return closer === OBJECT_END ? this.#name() : undefined;
      if (code !== closer) this.#fail();
      this.#closers.pop();
    }
  }

  #name(): void {
    if (this.#text.charCodeAt(this.#at) !== QUOTE) this.#fail();
    this.#string();
    this.#space();
    if (this.#text.charCodeAt(this.#at) !== COLON) this.#fail();
    this.#at += 1;
    this.#space();
  }

  #string(): void {
    const text = this.#text;
    for (let at = this.#at + 1; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code === QUOTE) {
        this.#at = at + 1;
        return;
      }
      if (code < 0x20) this.#fail();
      if (code !== BACKSLASH) continue;
      at += 1;
      if (ESCAPED.has(text.charCodeAt(at))) continue;
      HEX.lastIndex = at + 1;
      if (text.charCodeAt(at) !== 0x75 || !HEX.test(text)) this.#fail();
      at += 4;
    }
    this.#fail();
  }

  #word(): void {
    const word = WORDS.find((one) => this.#text.startsWith(one, this.#at)) ?? this.#fail();
    this.#at += word.length;
  }

  #number(): void {
    const text = this.#text;
    if (text.charCodeAt(this.#at) === MINUS) this.#at += 1;
    if (text.charCodeAt(this.#at) === ZERO) this.#at += 1;
    else this.#digits();
    if (text.charCodeAt(this.#at) === 0x2e) {
      this.#at += 1;
      this.#digits();
    }
    const code = text.charCodeAt(this.#at);
    if (code !== 0x65 && code !== 0x45) return;
    this.#at += 1;
    const sign = text.charCodeAt(this.#at);
    if (sign === MINUS || sign === 0x2b) this.#at += 1;
    this.#digits();
  }

  /** At least one. */
  #digits(): void {
    const from = this.#at;
    for (let code = ZERO; code >= ZERO && code <= 0x39;) code = this.#text.charCodeAt(this.#at++);
    this.#at -= 1;
    if (this.#at === from) this.#fail();
  }

  #space(): void {
    while (SPACES.has(this.#text.charCodeAt(this.#at))) this.#at += 1;
  }

  #fail(): never {
    throw new SyntaxError(`not JSON at ${this.#at}`);
  }
}
