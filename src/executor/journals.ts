import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Journal, type JournalSource, type OutputLimits } from "./journal.ts";
import { closeLostJournal } from "./recovery.ts";

const SUFFIX = ".journal";
const RECENT = 4096;

/** The journals of a data directory: `<root>/<sandbox>/<execution>.journal`. Ids have been checked (ids.ts). */
export class Journals {
  readonly #root: string;
  readonly #limits: OutputLimits;
  readonly #known = new Set<string>();
  /** Where the latest executions are, so that the usual reader needs no search. */
  readonly #recent = new Map<string, string>();

  constructor(root: string, limits: OutputLimits) {
    this.#root = root;
    this.#limits = limits;
    mkdirSync(root, { recursive: true, mode: 0o700 });
  }

  /** Throws EEXIST when the execution has a journal in that sandbox. */
  create(sandboxId: string, executionId: string): Journal {
    if (!this.#known.has(sandboxId)) {
      mkdirSync(join(this.#root, sandboxId), { recursive: true, mode: 0o700 });
      this.#known.add(sandboxId);
    }
    const journal = new Journal(this.#path(sandboxId, executionId), this.#limits);
    this.#recent.set(executionId, sandboxId);
    if (this.#recent.size > RECENT) this.#recent.delete(this.#recent.keys().next().value ?? "");
    return journal;
  }

  /** The journal of an execution that is not live; null when there is none. One that a lost executor left without an end gets it now. */
  open(executionId: string): JournalSource | null {
    const path = this.#find(executionId);
    return path === null ? null : new EndedJournal(path);
  }

  /** Forgets an execution that is not live. Idempotent. */
  delete(sandboxId: string, executionId: string): void {
    this.#recent.delete(executionId);
    rmSync(this.#path(sandboxId, executionId), { force: true });
  }

  /** Forgets every execution of a sandbox, none of which is live. */
  deleteSandbox(sandboxId: string): void {
    this.#known.delete(sandboxId);
    rmSync(join(this.#root, sandboxId), { recursive: true, force: true });
  }

  /** Every journal's path, at the time of asking. */
  *paths(): Generator<{ executionId: string; path: string }> {
    for (const sandboxId of readdirSync(this.#root)) {
      for (const name of namesIn(join(this.#root, sandboxId))) {
        if (!name.endsWith(SUFFIX)) continue;
        const executionId = name.slice(0, -SUFFIX.length);
        yield { executionId, path: this.#path(sandboxId, executionId) };
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
