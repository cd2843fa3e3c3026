import { closeSync, constants, openSync, readdirSync, statSync, type Dirent, type Stats } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { statsIfSeen } from "./beneath.ts";
import { TEMPORARY } from "./files.ts";
import type { Artifact } from "./protocol.ts";

/** What an execution must remember of its start to be told what it changed. */
export type WorkspaceMark = { scan: number; atMs: number };

/** Entries of a workspace that are looked at, and artifacts that are reported; the rest is left out. */
const MAX_ENTRIES = 10_000;
const MAX_ARTIFACTS = 1000;
const MAX_DEPTH = 32;
/** A directory file larger than this holds more entries than are worth reading. */
const MAX_DIRECTORY_BYTES = 2 * 1024 * 1024;
const MAX_OUTSIDE = 1000;
/** Entries that are looked at before others get their turn. */
const ENTRIES_A_TURN = 512;
/** Of a double that holds milliseconds since the epoch. */
const ROUNDING_MS = 0.01;
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

type Found = { path: string; stats: Stats };

/**
 * Finds the files of a workspace that changed since an execution started: by their change time, which no program can set
 * back. Programs may rename and link while it looks: below the top, directories are walked by descriptor and never
 * through a symbolic link. `__pycache__` is no one's artifact.
 */
export class WorkspaceChanges {
  readonly #root: string;
  #scan = 0;
  /** Number of the scan that first saw a path. */
  #firstSeen = new Map<string, number>();
  /** Change times of files that were written from outside. */
  readonly #outside = new Map<string, number>();
  #turn: Promise<unknown> | null = null;

  constructor(root: string) {
    this.#root = root;
  }

  /** `atMs`: the time of day as the kernel stamps files (the modification time of a file just written). */
  mark(atMs: number): WorkspaceMark {
    return { scan: this.#scan, atMs: atMs - ROUNDING_MS };
  }

  /** Notes that a path, relative to the workspace, was written from outside: it is not what an execution changed. */
  wroteOutside(path: string): void {
    const stats = statsIfSeen(`${this.#root}/${path}`);
    if (stats === null) return;
    if (this.#outside.size >= MAX_OUTSIDE) this.#outside.clear();
    this.#outside.set(path, stats.ctimeMs);
    if (this.#firstSeen.size < MAX_ENTRIES) this.#firstSeen.set(path, this.#scan);
  }

  /** Files changed since the mark, by path. At once for a small workspace, in turns with other work for a large one. */
  since(mark: WorkspaceMark): Artifact[] | Promise<Artifact[]> {
    if (this.#turn !== null) return this.#later(mark);
    const walk = this.#walk();
    const changed: Found[] = [];
    const step = walk.next();
    if (step.done !== true) return this.#inTurns(walk, step.value, mark);
    collect(changed, step.value, mark);
    return this.#report(changed, mark);
  }

  async #later(mark: WorkspaceMark): Promise<Artifact[]> {
    while (this.#turn !== null) await this.#turn;
    return this.since(mark);
  }

  async #inTurns(walk: Generator<Found[], Found[]>, first: Found[], mark: WorkspaceMark): Promise<Artifact[]> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    const changed: Found[] = [];
    try {
      collect(changed, first, mark);
      for (;;) {
        await setImmediate();
        const step = walk.next();
        collect(changed, step.value, mark);
        if (step.done === true) return this.#report(changed, mark);
      }
    } finally {
      this.#turn = null;
      resolve();
    }
  }

  #report(changed: Found[], mark: WorkspaceMark): Artifact[] {
    const artifacts: Artifact[] = [];
    for (const { path, stats } of changed) {
      if (this.#outside.get(path) === stats.ctimeMs) continue;
      const isNew = (this.#firstSeen.get(path) ?? Number.MAX_SAFE_INTEGER) > mark.scan;
      const type = isNew && (stats.birthtimeMs === 0 || stats.birthtimeMs >= mark.atMs) ? "created" : "modified";
      artifacts.push({ path, size: stats.size, mime_type: mimeType(path), type });
      if (artifacts.length === MAX_ARTIFACTS) break;
    }
    return artifacts.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  }

  /** Yields the regular files in pieces; the last piece is returned. */
  *#walk(): Generator<Found[], Found[]> {
    this.#scan += 1;
    const seen = new Map<string, number>();
    const budget = { entries: MAX_ENTRIES };
    let piece: Found[] = [];
    let count = 0;
    for (const found of filesBelow(this.#root, "", 0, budget)) {
      seen.set(found.path, this.#firstSeen.get(found.path) ?? this.#scan);
      piece.push(found);
      if (++count % ENTRIES_A_TURN !== 0) continue;
      yield piece;
      piece = [];
    }
    this.#firstSeen = seen;
    return piece;
  }
}

function collect(changed: Found[], piece: Found[], mark: WorkspaceMark): void {
  for (const found of piece) if (found.stats.ctimeMs >= mark.atMs) changed.push(found);
}

function* filesBelow(directory: string, prefix: string, depth: number, budget: { entries: number }): Generator<Found> {
  for (const entry of entriesOf(directory)) {
    if (budget.entries-- <= 0) return;
    const { name } = entry;
    if (name.startsWith(TEMPORARY)) continue;
    const path = prefix + name;
    if (entry.isFile()) {
      const stats = statsIfSeen(`${directory}/${name}`);
      if (stats?.isFile() === true) yield { path, stats };
    } else if (entry.isDirectory() && depth < MAX_DEPTH && name !== "__pycache__") {
      const fd = openDirectory(`${directory}/${name}`);
      if (fd === null) continue;
      try {
        yield* filesBelow(`/proc/self/fd/${fd}`, `${path}/`, depth + 1, budget);
      } finally {
        closeSync(fd);
      }
    }
  }
}

function entriesOf(directory: string): Dirent[] {
  try {
    if (statSync(directory).size > MAX_DIRECTORY_BYTES) return [];
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}

function openDirectory(path: string): number | null {
  try {
    return openSync(path, DIRECTORY);
  } catch {
    return null;
  }
}

function mimeType(path: string): string {
  return (Bun.file(path).type.split(";")[0] ?? "") || "application/octet-stream";
}
