import { closeSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";

/** A log file of at most `limitBytes`; when it is full it becomes `<path>.1` and a new one is begun. */
export class LogFile {
  readonly #path: string;
  readonly #limitBytes: number;
  #fd: number;
  #bytes: number;

  constructor(path: string, limitBytes: number) {
    this.#path = path;
    this.#limitBytes = limitBytes;
    this.#fd = openSync(path, "a", 0o600);
    this.#bytes = fstatSync(this.#fd).size;
    if (this.#bytes > limitBytes / 2) this.#rotate();
  }

  /** Appends a line, newline included. What can't be written is lost: a full disk must not end the executor. */
  write(line: string): void {
    try {
      this.#bytes += writeSync(this.#fd, line);
      if (this.#bytes > this.#limitBytes) this.#rotate();
    } catch {
      this.#bytes = fstatSync(this.#fd).size;
    }
  }

  #rotate(): void {
    renameSync(this.#path, `${this.#path}.1`);
    closeSync(this.#fd);
    this.#fd = openSync(this.#path, "a", 0o600);
    this.#bytes = 0;
  }
}
