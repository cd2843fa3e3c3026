import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";

/** Room for the ends of some dozens of executions: each takes a block of the file system at most. */
const RESERVE_BYTES = 256 * 1024;

/** Disk that is kept for the lines without which a journal says nothing, for when there is no other left. */
export class JournalReserve {
  readonly #path: string;
  #isThere = false;

  constructor(path: string) {
    this.#path = path;
    this.keep();
  }

  /** Takes the disk, again after it was given; while there is none, nothing. */
  keep(): void {
    if (this.#isThere) return;
    const fd = openSync(this.#path, "w", 0o600);
    try {
      this.#isThere = writeSync(fd, Buffer.alloc(RESERVE_BYTES)) === RESERVE_BYTES;
    } catch {
      this.#isThere = false;
    }
    if (!this.#isThere) ftruncateSync(fd, 0);
    closeSync(fd);
  }

  /** Frees it for who writes next; false when it was free already. */
  give(): boolean {
    if (!this.#isThere) return false;
    this.#isThere = false;
    closeSync(openSync(this.#path, "w", 0o600));
    return true;
  }
}
