import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { JournalReserve } from "./journal-reserve.ts";
import { Journal, type JournalDisk, type JournalSource, type OutputLimits } from "./journal.ts";
import { JournalBudget } from "./journal-budget.ts";
import type { JournalName } from "./protocol.ts";
import { closeLostJournal } from "./recovery.ts";

const SUFFIX = ".journal";
/** No id of a sandbox starts with a dot but those of programs that run once. */
const RESERVE = ".reserve";
const RECENT = 4096;
const FILES_A_TURN = 32;
/** Journals that are named at once for removal. */
const MAX_SURPLUS = 1000;

/** The journals of a data directory: `<root>/<sandbox>/<execution>.journal`. Ids have been checked (ids.ts). */
export class Journals implements JournalDisk {
  readonly #root: string;
  readonly #limits: OutputLimits;
  readonly budget: JournalBudget;
  readonly reserve: JournalReserve;
  readonly #known = new Set<string>();
  /** Where the latest executions are, so that the usual reader needs no search. */
  readonly #recent = new Map<string, string>();

  constructor(root: string, limits: OutputLimits) {
    this.#root = root;
    this.#limits = limits;
    this.budget = new JournalBudget(limits.journalsLimitBytes);
    mkdirSync(root, { recursive: true, mode: 0o700 });
    this.reserve = new JournalReserve(join(root, RESERVE));
  }

  /** Throws EEXIST when the execution has a journal in that sandbox. */
  create(sandboxId: string, executionId: string): Journal {
    this.reserve.keep();
    if (!this.#known.has(sandboxId)) {
      mkdirSync(join(this.#root, sandboxId), { recursive: true, mode: 0o700 });
      this.#known.add(sandboxId);
    }
    const journal = new Journal(this.#path(sandboxId, executionId), this.#limits, this);
    this.#recent.set(executionId, sandboxId);
    if (this.#recent.size > RECENT) this.#recent.delete(this.#recent.keys().next().value ?? "");
    return journal;
  }

  /** The journal of an execution that is not live, which gets its end now if a lost executor left it without; null: none. */
  open(executionId: string): JournalSource | null {
    const path = this.#find(executionId);
    return path === null ? null : new EndedJournal(path);
  }

  /** Forgets an execution that is not live. Idempotent. */
  delete(sandboxId: string, executionId: string): void {
    this.#recent.delete(executionId);
    this.#remove(this.#path(sandboxId, executionId));
  }

  /** Forgets every execution of a sandbox, none of which is live. */
  deleteSandbox(sandboxId: string): void {
    this.#known.delete(sandboxId);
    for (const name of namesIn(join(this.#root, sandboxId))) this.#remove(join(this.#root, sandboxId, name));
    rmSync(join(this.#root, sandboxId), { recursive: true, force: true });
  }

  #remove(path: string): void {
    const size = sizeOf(path);
    if (size === null) return;
    rmSync(path, { force: true });
    this.budget.fileRemoved(size);
  }

  /** Counts a journal of an executor before this one. */
  found(executionId: string, bytes: number): void {
    if (!this.#recent.has(executionId)) this.budget.fileMade(bytes);
  }

  /** When there is little room left: the oldest journals that are not live, as many as it takes to have enough again. */
  async surplus(isLive: (executionId: string) => boolean): Promise<JournalName[]> {
    const surplusBytes = this.budget.surplusBytes();
    if (surplusBytes === 0) return [];
    const ended: (JournalName & { size: number; mtimeMs: number })[] = [];
    let count = 0;
    for (const { sandboxId, executionId, path } of this.paths()) {
      if (++count % FILES_A_TURN === 0) await setImmediate();
      const stat = isLive(executionId) ? undefined : statSync(path, { throwIfNoEntry: false });
      if (stat !== undefined) ended.push({ id: executionId, sandboxId, size: stat.size, mtimeMs: stat.mtimeMs });
    }
    const named: JournalName[] = [];
    let bytes = 0;
    for (const { id, sandboxId, size } of ended.toSorted((a, b) => a.mtimeMs - b.mtimeMs)) {
      if (bytes >= surplusBytes || named.length === MAX_SURPLUS) break;
      named.push({ id, sandboxId });
      bytes += size;
    }
    return named;
  }

  /** Every journal's path, at the time of asking. */
  *paths(): Generator<{ sandboxId: string; executionId: string; path: string }> {
    for (const sandboxId of readdirSync(this.#root)) {
      for (const name of namesIn(join(this.#root, sandboxId))) {
        if (!name.endsWith(SUFFIX)) continue;
        const executionId = name.slice(0, -SUFFIX.length);
        yield { sandboxId, executionId, path: this.#path(sandboxId, executionId) };
      }
    }
  }

  #path(sandboxId: string, executionId: string): string {
    return join(this.#root, sandboxId, executionId + SUFFIX);
  }

  #find(executionId: string): string | null {
    const recent = this.#recent.get(executionId);
    const sandboxIds = recent === undefined ? readdirSync(this.#root) : [recent];
    for (const sandboxId of sandboxIds) {
      const path = this.#path(sandboxId, executionId);
      if (existsSync(path)) return path;
    }
    return null;
  }
}

/** Null when there is none. */
function sizeOf(path: string): number | null {
  return statSync(path, { throwIfNoEntry: false })?.size ?? null;
}

/** None when the directory has gone meanwhile. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** A journal on disk that does not grow any more. */
class EndedJournal implements JournalSource {
  readonly fd: number;
  readonly size: number;
  readonly ended = true;
  #open = true;

  constructor(path: string) {
    this.fd = openSync(path, "r+");
    try {
      closeLostJournal(this.fd);
      this.size = fstatSync(this.fd).size;
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  onGrowth(): () => void {
    return () => {};
  }

  release(): void {
    if (this.#open) closeSync(this.fd);
    this.#open = false;
  }
}
