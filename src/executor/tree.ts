import { closeSync, constants, fstatSync, openSync, read, readdirSync, readlinkSync, type Stats } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { AppError } from "../errors.ts";
import { at, openPlace, statsIfSeen } from "./beneath.ts";
import { TEMPORARY } from "./files.ts";
import type { TreeFile, WorkspaceTree } from "./protocol.ts";

/** Entries of a workspace of which a version can be kept. */
export const MAX_TREE_ENTRIES = 50_000;
/** Longest path that a version keeps: in any workspace, a program can then open it by its name. */
export const MAX_PATH_BYTES = 4000;
/** Directories inside each other that are entered: each takes a descriptor on the way. */
const MAX_DEPTH = 250;
const ENTRIES_A_TURN = 512;
const BLOCK_BYTES = 256 * 1024;
/** A file that changed so shortly before its bytes were read may change again without another change time. */
const FRESH_MS = 100;
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const DIRECTORY = READ | constants.O_DIRECTORY;

const readAt = promisify(read);

type Found = { path: string; stats: Stats };
type Hashed = { key: string; sha256: string };
type Walk = {
  files: Found[];
  directories: WorkspaceTree["directories"];
  links: WorkspaceTree["links"];
  skipped: number;
};

/**
 * Reads what a version of a workspace keeps: files with their hashes, directories, links. The sandbox's own user may change
 * all of it meanwhile; nothing outside the workspace is reached. What was hashed is remembered by inode, size and times.
 */
export class TreeReader {
  readonly #root: string;
  #hashed = new Map<string, Hashed>();

  constructor(root: string) {
    this.#root = root;
  }

  /** `body_too_large` when there are more entries than a version can have, or more than `maxBytes` bytes. */
  async read(maxBytes: number): Promise<WorkspaceTree> {
    const { files, directories, links, skipped } = await walked(this.#root);
    const bytes = files.reduce((sum, { stats }) => sum + stats.size, 0);
    if (bytes > maxBytes)
      throw new AppError("body_too_large", `the workspace has ${bytes} bytes, more than ${maxBytes}`);
    const hashed = new Map<string, Hashed>();
    const entries: TreeFile[] = [];
    let missed = skipped;
    for (const found of files) {
      const entry = await this.#entryOf(found, hashed);
      if (entry === null) missed++;
      else entries.push(entry);
    }
    this.#hashed = hashed;
    const content = { entries: sorted(entries), directories: sorted(directories), links: sorted(links) };
    const tag = new Bun.CryptoHasher("sha256").update(JSON.stringify(content)).digest("hex");
    return { tag, ...content, skipped: missed };
  }

  /** Null for a file that is gone meanwhile, or closed by its mode. */
  async #entryOf({ path, stats }: Found, hashed: Map<string, Hashed>): Promise<TreeFile | null> {
    const known = this.#hashed.get(path);
    if (known !== undefined && known.key === keyOf(stats)) {
      hashed.set(path, known);
      return entryOf(path, stats, stats.size, known.sha256);
    }
    const fd = openFile(this.#root, path);
    if (fd === null) return null;
    try {
      const before = fstatSync(fd);
      if (!before.isFile()) return null;
      const startedMs = Date.now();
      const { sha256, size } = await hashOf(fd, before.size);
      const key = keyOf(before);
      if (before.ctimeMs < startedMs - FRESH_MS && key === keyOf(fstatSync(fd))) hashed.set(path, { key, sha256 });
      return entryOf(path, before, size, sha256);
    } finally {
      closeSync(fd);
    }
  }
}

async function walked(root: string): Promise<Walk> {
  const walk: Walk = { files: [], directories: [], links: [], skipped: 0 };
  const fd = openSync(root, DIRECTORY);
  let count = 0;
  try {
    for (const _ of entriesBelow(`/proc/self/fd/${fd}`, "", 0, walk)) {
      if (++count > MAX_TREE_ENTRIES)
        throw new AppError("body_too_large", `the workspace has more than ${MAX_TREE_ENTRIES} entries`);
      if (count % ENTRIES_A_TURN === 0) await setImmediate();
    }
  } finally {
    closeSync(fd);
  }
  return walk;
}

/** Yields once for each entry. Directories are entered by descriptor and never through a link. */
function* entriesBelow(directory: string, prefix: string, depth: number, walk: Walk): Generator<void> {
  for (const name of namesIn(directory)) {
    if (name.startsWith(TEMPORARY)) continue;
    yield;
    const path = prefix + name;
    if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
      walk.skipped++;
      continue;
    }
    // A name that is not UTF-8 can't be asked for.
    const stats = name.includes("\ufffd") ? null : statsIfSeen(`${directory}/${name}`);
    if (stats?.isFile() === true) walk.files.push({ path, stats });
    else if (stats?.isSymbolicLink() === true) addLink(`${directory}/${name}`, path, walk);
    else if (stats?.isDirectory() === true) {
      walk.directories.push({ path, mode: modeOf(stats) });
      const fd = depth < MAX_DEPTH ? openDirectory(`${directory}/${name}`) : null;
      if (fd === null) {
        walk.skipped++;
        continue;
      }
      try {
        yield* entriesBelow(`/proc/self/fd/${fd}`, `${path}/`, depth + 1, walk);
      } finally {
        closeSync(fd);
      }
    } else walk.skipped++;
  }
}

/** None of a directory that was removed meanwhile. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function addLink(place: string, path: string, walk: Walk): void {
  try {
    const target = readlinkSync(place);
    if (target.includes("\ufffd")) walk.skipped++;
    else walk.links.push({ path, target });
  } catch {
    walk.skipped++;
  }
}

function openDirectory(path: string): number | null {
  try {
    return openSync(path, DIRECTORY);
  } catch {
    return null;
  }
}

function openFile(root: string, path: string): number | null {
  try {
    const place = openPlace(root, path.split("/"), { followLast: false });
    try {
      return openSync(at(place.parent, place.name), READ);
    } finally {
      place.close();
    }
  } catch {
    return null;
  }
}

/** Of the first `size` bytes, or of what there is when the file became shorter. */
async function hashOf(fd: number, size: number): Promise<{ sha256: string; size: number }> {
  const hash = new Bun.CryptoHasher("sha256");
  const block = new Uint8Array(Math.min(BLOCK_BYTES, Math.max(1, size)));
  let done = 0;
  while (done < size) {
    const { bytesRead } = await readAt(fd, block, 0, Math.min(block.length, size - done), done);
    if (bytesRead === 0) break;
    hash.update(block.subarray(0, bytesRead));
    done += bytesRead;
  }
  return { sha256: hash.digest("hex"), size: done };
}

function entryOf(path: string, stats: Stats, size: number, sha256: string): TreeFile {
  return { path, mode: modeOf(stats), size, sha256, modified_ms: Math.floor(stats.mtimeMs) };
}

function keyOf({ ino, size, mtimeMs, ctimeMs }: Stats): string {
  return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
}

function modeOf(stats: Stats): string {
  return (stats.mode & 0o1777).toString(8).padStart(4, "0");
}

function sorted<T extends { path: string }>(entries: T[]): T[] {
  return entries.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}
