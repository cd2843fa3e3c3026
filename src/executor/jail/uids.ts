import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { join } from "node:path";

/** Sandboxes that can exist at once. */
const SLOTS = 4096;
/** Executors on one host that can have users at once. */
const RANGES = 64;
/** Where executors of a host see which users are taken; gone after a restart of the host, as the processes are. */
const REGISTRY = "/run/sandbox-users";

/**
 * Host users of sandboxes, one for each, from a range that no other executor of this host has. A workspace keeps its user as
 * long as it exists, also while its sandbox does not run: nobody else gets that user unless all others are taken.
 */
export class Uids {
  readonly #first: number;
  readonly #claim: string;
  readonly #running = new Set<number>();
  readonly #owners = new Set<number>();
  #next = 0;

  /** `workspacesDir` holds a directory for each workspace. Throws an Error when every range is taken. */
  constructor(base: number, workspacesDir: string, registry: string = REGISTRY) {
    this.#first = claimRange(base, workspacesDir, registry);
    this.#claim = join(registry, String(this.#first));
    for (const name of readdirSync(workspacesDir)) {
      const owner = lstatSync(join(workspacesDir, name), { throwIfNoEntry: false })?.uid;
      if (owner !== undefined && this.#isOurs(owner)) this.#owners.add(owner);
    }
  }

  /** A user that no running sandbox has; `preferred` if it is one of these and free. Throws when all are taken. */
  claim(preferred: number | null): number {
    const uid =
      preferred !== null && this.#isOurs(preferred) && !this.#running.has(preferred) ? preferred : this.#free();
    this.#running.add(uid);
    this.#owners.add(uid);
    return uid;
  }

  #free(): number {
    for (const isFree of [(uid: number) => !this.#owners.has(uid), () => true])
      for (let i = 0; i < SLOTS; i++) {
        const uid = this.#first + ((this.#next + i) % SLOTS);
        if (this.#running.has(uid) || !isFree(uid)) continue;
        this.#next = (this.#next + i + 1) % SLOTS;
        return uid;
      }
    throw new Error(`all ${SLOTS} users of sandboxes are taken`);
  }

  /** The sandbox has ended; its workspace stays this user's. */
  release(uid: number): void {
    this.#running.delete(uid);
  }

  /** The workspace of this user is gone. */
  forget(uid: number): void {
    if (!this.#running.has(uid)) this.#owners.delete(uid);
  }

  /** Gives the range back, unless there are workspaces of its users. */
  close(): void {
    if (this.#owners.size === 0) unlinkIfThere(this.#claim);
  }

  #isOurs(uid: number): boolean {
    return uid >= this.#first && uid < this.#first + SLOTS;
  }
}

/** The first user of a range: a link named after it leads to the workspaces of whoever has it. */
function claimRange(base: number, workspacesDir: string, registry: string): number {
  mkdirSync(registry, { recursive: true, mode: 0o755 });
  const preferred = Bun.hash.crc32(workspacesDir) % RANGES;
  const firsts = Array.from({ length: RANGES }, (_, i) => base + ((preferred + i) % RANGES) * SLOTS);
  const mine = firsts.find((first) => holderOf(join(registry, String(first))) === workspacesDir);
  if (mine !== undefined) return mine;
  for (const first of firsts) {
    const path = join(registry, String(first));
    const holder = holderOf(path);
    if (holder !== null && existsSync(holder)) continue;
    if (holder !== null && holderOf(path) === holder) unlinkIfThere(path);
    try {
      symlinkSync(workspacesDir, path);
      return first;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
  throw new Error(`all ${RANGES} ranges of users are taken: see ${registry}, or choose another SANDBOX_UID_BASE`);
}

function holderOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/**
 * Makes the workspace, or takes over the one that is there, and gives it to a user who alone may enter it. Without `uids`
 * (not root) it stays the executor's own.
 */
export async function claimWorkspace(dir: string, uids: Uids | null): Promise<number | null> {
  const made = makeDirectory(dir);
  if (uids === null) return null;
  const owner = lstatSync(dir).uid;
  const uid = uids.claim(made ? null : owner);
  try {
    if (made) chownSync(dir, uid, uid);
    else if (owner !== uid) await chownAll(dir, uid);
  } catch (error) {
    uids.release(uid);
    throw error;
  }
  return uid;
}

function makeDirectory(dir: string): boolean {
  try {
    mkdirSync(dir, { mode: 0o700 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Every file of a workspace whose user is taken meanwhile; links themselves, not what they lead to. */
async function chownAll(dir: string, uid: number): Promise<void> {
  const run = Bun.spawn(["chown", "-R", "-h", "-P", `${uid}:${uid}`, "--", dir], {
    stdout: "ignore",
    stderr: "ignore",
  });
  if ((await run.exited) !== 0) throw new Error("the workspace could not be given to its user");
}
