import { chownSync, mkdirSync, statSync } from "node:fs";

/** Sandboxes that can exist at once. */
const SLOTS = 4096;
/** Executors on one host that use different ranges, by a hash of their data directory. */
const RANGES = 64;

/**
 * Host users of sandboxes, one for each, held in memory: nothing is left of a claim when the executor ends. A user is
 * taken again as late as possible.
 */
export class Uids {
  readonly #first: number;
  readonly #taken = new Set<number>();
  #next = 0;

  constructor(base: number, dataDir: string) {
    this.#first = base + (Bun.hash.crc32(dataDir) % RANGES) * SLOTS;
  }

  /** A user that no other sandbox has; `preferred` if it is one of these and free. Throws when all are taken. */
  claim(preferred: number | null): number {
    if (preferred !== null && this.#isOurs(preferred) && !this.#taken.has(preferred)) {
      this.#taken.add(preferred);
      return preferred;
    }
    for (let i = 0; i < SLOTS; i++) {
      const uid = this.#first + ((this.#next + i) % SLOTS);
      if (this.#taken.has(uid)) continue;
      this.#taken.add(uid);
      this.#next = (this.#next + i + 1) % SLOTS;
      return uid;
    }
    throw new Error(`all ${SLOTS} users of sandboxes are taken`);
  }

  release(uid: number): void {
    this.#taken.delete(uid);
  }

  #isOurs(uid: number): boolean {
    return uid >= this.#first && uid < this.#first + SLOTS;
  }
}

/**
 * Makes the workspace, or takes over the one that is there, and gives it to a user who alone may enter it. Without `uids`
 * (not root) it stays the executor's own.
 */
export async function claimWorkspace(dir: string, uids: Uids | null): Promise<number | null> {
  const made = mkdirSync(dir, { recursive: true, mode: 0o700 }) !== undefined;
  if (uids === null) return null;
  const owner = statSync(dir).uid;
  const uid = uids.claim(made ? null : owner);
  if (made) chownSync(dir, uid, uid);
  else if (owner !== uid) await chownAll(dir, uid);
  return uid;
}

/** Every file of a workspace whose user is taken meanwhile; links themselves, not what they lead to. */
async function chownAll(dir: string, uid: number): Promise<void> {
  const run = Bun.spawn(["chown", "-R", "-h", "-P", `${uid}:${uid}`, "--", dir], {
    stdout: "ignore",
    stderr: "ignore",
  });
  if ((await run.exited) !== 0) throw new Error("the workspace could not be given to its user");
}
