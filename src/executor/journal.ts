import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import type { JournalBudget } from "./journal-budget.ts";
import type { JournalReserve } from "./journal-reserve.ts";
import { OutputStream } from "./output-stream.ts";
import type { JournalPayloads, JournalType, Outcome } from "./protocol.ts";

export type OutputLimits = {
  /** Bytes of each stream that the record keeps; more sets the truncation flags. */
  outputLimitBytes: number;
  /** Bytes of one journal's file that output may fill; what comes after is counted and dropped. */
  journalLimitBytes: number;
  /** Bytes of all journals together, past which output is counted and dropped. */
  journalsLimitBytes: number;
};

/** What the journals of an executor share. */
export type JournalDisk = { budget: JournalBudget; reserve: JournalReserve };

/** What a reader needs of a journal: a file, how much of it is there, and news of more. */
export interface JournalSource {
  readonly fd: number;
  /** Bytes that may be read; always the end of an entry. */
  readonly size: number;
  /** No more will come. */
  readonly ended: boolean;
  /** Called once at the next growth; the returned function takes the callback back. */
  onGrowth(callback: () => void): () => void;
  /** The reader needs it no more. */
  release(): void;
}

/** An outcome without what the journal itself knows: how much output there was. */
export type JournaledOutcome = Omit<Outcome, "stdout_bytes" | "stderr_bytes" | "stdout_truncated" | "stderr_truncated">;

/** Output after the first chunk is merged for this long … */
const MERGE_MS = 5;
/** … or until it is this much. */
const MERGE_BYTES = 32 * 1024;
/** Room past the limit for stderr alone, so that the traceback after a flood of stdout is kept. */
const STDERR_RESERVE_BYTES = 256 * 1024;

type Pending = { type: "stdout" | "stderr"; parts: Uint8Array[] };

/**
 * The journal of one live execution: an append-only file of numbered entries (protocol.ts). Every entry is on disk before
 * a reader sees it. The file is there when the constructor returns. Writes are synchronous: they go to the page cache.
 */
export class Journal implements JournalSource {
  readonly fd: number;
  size = 0;
  ended = false;
  readonly #limits: OutputLimits;
  readonly #budget: JournalBudget;
  readonly #reserve: JournalReserve;
  readonly #stdout = new OutputStream();
  readonly #stderr = new OutputStream();
  #seq = 0;
  #pending: Pending[] = [];
  #pendingBytes = 0;
  #timer: NodeJS.Timeout | null = null;
  #flushedAt = Number.NEGATIVE_INFINITY;
  #users = 1;
  #waiters: Set<() => void> = new Set();

  /** Throws EEXIST when the execution has a journal, ENOSPC and the like when it can't be written. */
  constructor(path: string, limits: OutputLimits, shared: JournalDisk) {
    this.#limits = limits;
    this.#budget = shared.budget;
    this.#reserve = shared.reserve;
    this.fd = openSync(path, "wx+", 0o600);
    this.#budget.fileMade();
  }

  /** Appends an entry for each; `at` is ISO 8601. */
  status(...entries: JournalPayloads["status"][]): void {
    const seq = this.#seq;
    const lines = (): string => entries.map((entry) => this.#line("status", JSON.stringify(entry))).join("");
    if (!this.#append(lines(), seq) && this.#reserve.give()) this.#append(lines(), seq);
  }

  /** Takes output: at once when there was none for a while, merged with what follows else. Copies what it keeps. */
  output(type: "stdout" | "stderr", chunk: Uint8Array): void {
    const stream = type === "stdout" ? this.#stdout : this.#stderr;
    stream.totalBytes += chunk.length;
    if (stream.cut || chunk.length === 0) return;
    const total = this.#pendingBytes + chunk.length;
    const sinceMs = performance.now() - this.#flushedAt;
    const now = total >= MERGE_BYTES || (this.#timer === null && sinceMs >= MERGE_MS);
    const last = this.#pending.at(-1);
    const part = now ? chunk : chunk.slice();
    if (last?.type === type) last.parts.push(part);
    else this.#pending.push({ type, parts: [part] });
    this.#pendingBytes = total;
    if (now) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), MERGE_MS - sinceMs);
  }

  /**
   * Appends what is pending, the result (JSON on one line) and the end; nothing can be appended after it. False when the
   * disk is full: the journal then has no end, as after a crash.
   */
  end(result: string | null, outcome: JournaledOutcome): boolean {
    const at = outcome.completed_at;
    const seq = this.#seq;
    const output = this.#takePending(at) + this.#rest("stdout", at) + this.#rest("stderr", at);
    const resultLine = result === null ? "" : this.#line("result", `{"return_value":${result}}`);
    this.ended = true;
    const added =
      this.#append(output + resultLine + this.#endLine(outcome), seq) ||
      this.#append(this.#endLine(outcome), seq) ||
      (this.#reserve.give() && this.#append(this.#endLine(outcome), seq));
    this.release();
    return added;
  }

  onGrowth(callback: () => void): () => void {
    this.#waiters.add(callback);
    return () => this.#waiters.delete(callback);
  }

  /** Takes part in keeping the file open until `release`; only before the end. */
  retain(): this {
    this.#users += 1;
    return this;
  }

  release(): void {
    this.#users -= 1;
    if (this.#users === 0) closeSync(this.fd);
  }

  /** Readers that wait for more. */
  get waiting(): number {
    return this.#waiters.size;
  }

  #truncated(stream: OutputStream): boolean {
    return stream.cut || stream.totalBytes > this.#limits.outputLimitBytes;
  }

  #line(type: JournalType, json: string): string {
    this.#seq += 1;
    return `${this.#seq} ${type} ${json}\n`;
  }

  #endLine(outcome: JournaledOutcome): string {
    const full: Outcome = {
      ...outcome,
      stdout_bytes: this.#stdout.totalBytes,
      stderr_bytes: this.#stderr.totalBytes,
      stdout_truncated: this.#truncated(this.#stdout),
      stderr_truncated: this.#truncated(this.#stderr),
    };
    return this.#line("end", JSON.stringify(full));
  }

  #rest(type: "stdout" | "stderr", at: string): string {
    const stream = type === "stdout" ? this.#stdout : this.#stderr;
    const json = stream.cut ? null : stream.encodeRest(at);
    return json === null ? "" : this.#line(type, json);
  }

  #takePending(at: string): string {
    let lines = "";
    let bytes = this.size;
    for (const { type, parts } of this.#pending) {
      const stream = type === "stdout" ? this.#stdout : this.#stderr;
      if (stream.cut) continue;
      const limit = this.#limits.journalLimitBytes + (type === "stderr" ? STDERR_RESERVE_BYTES : 0);
      const json = stream.encode(parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts), at);
      if (json === null) continue;
      bytes += Buffer.byteLength(json);
      if (bytes > limit || !this.#budget.hasRoom(bytes - this.size)) stream.cut = true;
      else lines += this.#line(type, json);
    }
    this.#pending = [];
    this.#pendingBytes = 0;
    return lines;
  }

  #flush(): void {
    const seq = this.#seq;
    this.#flushedAt = performance.now();
    this.#append(this.#takePending(new Date().toISOString()), seq);
  }

  /** Writes lines, the first numbered `seq + 1`, and wakes the readers. False: the disk is full, and nothing was added. */
  #append(lines: string, seq: number): boolean {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const added = lines === "" || this.#write(Buffer.from(lines));
    if (!added) {
      this.#seq = seq;
      this.#stdout.cut = this.#stderr.cut = true;
    }
    this.#wake();
    return added;
  }

  #write(bytes: Buffer): boolean {
    let written = 0;
    try {
      while (written < bytes.length)
        written += writeSync(this.fd, bytes, written, bytes.length - written, this.size + written);
    } catch {
      ftruncateSync(this.fd, this.size);
      return false;
    }
    this.size += written;
    this.#budget.written(written);
    return true;
  }

  #wake(): void {
    if (this.#waiters.size === 0) return;
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const wake of waiters) wake();
  }
}
