import {
  chmodSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { AppError } from "../../errors.ts";
import { removeTree } from "../jail/remove-tree.ts";
import { JAIL_PATHS } from "../languages/launch.ts";
import { diskMessage } from "../outcome.ts";
import type { InstalledPackage, Layer } from "../protocol.ts";

/** What an index entry says. */
type StoredEntry = { name: string; bytes: number; packages: InstalledPackage[] };
type Entry = StoredEntry & { digest: string; usedMs: number };

/** A layer that was handed out this recently is about to be used. */
const GRACE_MS = 60_000;
/** Files, links and directories of one layer. */
const MAX_FILES = 200_000;
const FILES_A_TURN = 256;

/**
 * Layers on disk: `<dataDir>/layers/<name>` with an unguessable name, and `<dataDir>/layer-index/<digest>.json` that says
 * what it holds. A layer without a whole index entry does not exist. The entry's mtime is the last use.
 */
export class LayerStore {
  readonly #dir: string;
  readonly #index: string;
  readonly #limitBytes: number;
  readonly #insideDir: string;

  /** `insideDir`: where sandboxes see the layers. */
  constructor(dataDir: string, limitBytes: number, insideDir = JAIL_PATHS.layersDir) {
    this.#insideDir = insideDir;
    this.#dir = join(dataDir, "layers");
    this.#index = join(dataDir, "layer-index");
    this.#limitBytes = limitBytes;
    mkdirSync(this.#dir, { recursive: true });
    mkdirSync(this.#index, { recursive: true, mode: 0o700 });
    chmodSync(this.#dir, 0o711);
    this.#removeUnknown();
    // Sandboxes of an executor that is not root are the same user, and must not list the names either. Those that a sandbox
    // sees where they are (in a Pod) are its own, and count towards its disk.
    if (insideDir !== this.#dir) chmodSync(this.#dir, 0o311);
  }

  /** Lets its user list and remove the layers again, once no sandbox is left. */
  close(): void {
    // Who removes the data directory at once does not wait for this.
    if (existsSync(this.#dir)) chmodSync(this.#dir, 0o711);
  }

  /** The layer of a digest, used now; null when there is none. */
  find(digest: string): Layer | null {
    const path = this.#entryPath(digest);
    const entry = this.#read(digest);
    if (entry === null || lstatSync(join(this.#dir, entry.name), { throwIfNoEntry: false }) === undefined) return null;
    const now = new Date();
    utimesSync(path, now, now);
    return this.#layerOf(entry);
  }

  /** The layer of a name; null when there is none. */
  named(name: string): Layer | null {
    const entry = this.#entries().find((one) => one.name === name);
    return entry === undefined ? null : this.#layerOf(entry);
  }

  /**
   * Takes a directory over as the layer of a digest. Nothing may write to it any more; it becomes the executor's. Throws
   * `dependency_failed`, also when it has more than `maxBytes`: a quick build may be over before anybody measured it.
   */
  async add(digest: string, directory: string, packages: InstalledPackage[], maxBytes: number): Promise<Layer> {
    const name = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("hex");
    const bytes = await takeOver(directory);
    if (bytes > maxBytes) throw new AppError("dependency_failed", diskMessage({ limits: { diskBytes: maxBytes } }));
    renameSync(directory, join(this.#dir, name));
    const entry = { name, bytes, packages };
    writeFileSync(`${this.#entryPath(digest)}.new`, JSON.stringify(entry), { mode: 0o600 });
    renameSync(`${this.#entryPath(digest)}.new`, this.#entryPath(digest));
    return this.#layerOf(entry);
  }

  /** Removes the least recently used layers until the rest is within the limit; never one of `inUse`. */
  async trim(inUse: ReadonlySet<string>): Promise<void> {
    const entries = this.#entries().toSorted((a, b) => a.usedMs - b.usedMs);
    let bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    for (const entry of entries) {
      if (bytes <= this.#limitBytes) return;
      if (inUse.has(entry.name) || Date.now() - entry.usedMs < GRACE_MS) continue;
      rmSync(this.#entryPath(entry.digest), { force: true });
      await removeTree(join(this.#dir, entry.name));
      bytes -= entry.bytes;
    }
  }

  #removeUnknown(): void {
    const known = new Set(this.#entries().map((entry) => entry.name));
    for (const name of readdirSync(this.#dir))
      if (!known.has(name)) rmSync(join(this.#dir, name), { recursive: true, force: true });
  }

  #entries(): Entry[] {
    const digests = readdirSync(this.#index).filter((file) => file.endsWith(".json"));
    return digests.flatMap((file) => this.#read(file.slice(0, -".json".length)) ?? []);
  }

  #read(digest: string): Entry | null {
    const path = this.#entryPath(digest);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return null;
    const stored = parseEntry(readFileSync(path, "utf8"));
    return stored === null ? null : { ...stored, digest, usedMs: stat.mtimeMs };
  }

  #layerOf({ name, packages }: { name: string; packages: InstalledPackage[] }): Layer {
    return { name, path: join(this.#insideDir, name), packages };
  }

  #entryPath(digest: string): string {
    return join(this.#index, `${digest}.json`);
  }
}

/** Null for what a power cut left of an entry. */
function parseEntry(text: string): StoredEntry | null {
  try {
    const entry = JSON.parse(text) as Partial<StoredEntry> | null;
    const isWhole = typeof entry?.name === "string" && typeof entry.bytes === "number" && Array.isArray(entry.packages);
    return isWhole ? (entry as StoredEntry) : null;
  } catch {
    return null;
  }
}

/**
 * Gives a tree to this user, readable by all and writable by none else; drops what is no file, link or directory. Returns
 * its bytes. Others get their turn in between, since whoever built the tree chose its size.
 */
async function takeOver(top: string): Promise<number> {
  if (!lstatSync(top).isDirectory()) throw new AppError("dependency_failed", "the installation is no directory");
  let bytes = 0;
  const left = [top];
  for (let count = 1; ; count++) {
    const path = left.pop();
    if (path === undefined) return bytes;
    if (count + left.length > MAX_FILES)
      throw new AppError("dependency_failed", `the packages have more than ${MAX_FILES} files`);
    bytes += takeOverOne(path, left);
    if (count % FILES_A_TURN === 0) await setImmediate();
  }
}

/** Adds what is in a directory to `left`. */
function takeOverOne(path: string, left: string[]): number {
  const stat = lstatSync(path);
  if (process.getuid?.() === 0) lchownSync(path, 0, 0);
  if (stat.isSymbolicLink()) return 0;
  if (stat.isDirectory()) {
    chmodSync(path, 0o755);
    for (const name of readdirSync(path)) left.push(join(path, name));
    return 4096;
  }
  if (!stat.isFile()) {
    rmSync(path);
    return 0;
  }
  chmodSync(path, (stat.mode & 0o100) === 0 ? 0o644 : 0o755);
  return stat.size;
}
