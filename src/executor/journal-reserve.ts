import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";

/** Room for the ends of some dozens of executions: each takes a block of the file system at most. */
const RESERVE_BYTES = 256 * 1024;

/** Disk that is set aside for the lines which every journal needs, its statuses and its end, for when the disk is full. */
export class JournalReserve {
  readonly #path: string;
  #isThere = false;

  constructor(path: string) {
    this.#path = path;
    this.keep();
  }

  /** Takes the disk, also again after it was given. Does nothing while there is no room. */
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
