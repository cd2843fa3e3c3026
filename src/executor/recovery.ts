import { closeSync, fstatSync, ftruncateSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { BLOCK_BYTES, journalLines, splitLine } from "./journal-lines.ts";
import type { JournalPayloads, Outcome, OutputPayload } from "./protocol.ts";

const NEWLINE = 0x0a;
const TAIL_BYTES = 512;
const FILES_A_TURN = 32;

/**
 * Ends the journals that a lost executor left open, among those written since `sinceMs` (epoch). Takes turns with other
 * work; `isLive` names the executions that this executor runs itself. Returns how many it ended; `failed` is told of each
 * that it could not, `found` of each that there is, with its size in bytes.
 */
export async function recoverJournals(
  paths: Iterable<{ executionId: string; path: string }>,
  sinceMs: number,
  isLive: (executionId: string) => boolean,
  failed: (path: string, error: unknown) => void,
  found: (executionId: string, bytes: number) => void,
): Promise<number> {
  let ended = 0;
  let count = 0;
  for (const { executionId, path } of paths) {
    if (++count % FILES_A_TURN === 0) await setImmediate();
    const stat = isLive(executionId) ? undefined : statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    found(executionId, stat.size);
    if (stat.mtimeMs < sinceMs) continue;
    try {
      if (recover(path)) ended += 1;
    } catch (error) {
      failed(path, error);
    }
  }
  return ended;
}

function recover(path: string): boolean {
  const fd = openSync(path, "r+");
  try {
    return closeLostJournal(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Gives a journal that is not written any more its `end`, if it has none: a line that was cut is removed, and the execution
 * is said to be `crashed`. True when the end was added.
 */
export function closeLostJournal(fd: number): boolean {
  const { size } = fstatSync(fd);
  const whole = lastLineEnd(fd, size);
  if (hasEnd(fd, whole)) {
    if (whole < size) ftruncateSync(fd, whole);
    return false;
  }
  const { seq, size: kept, outcome } = lostOutcome(fd, whole);
  ftruncateSync(fd, kept);
  const line = Buffer.from(`${seq + 1} end ${JSON.stringify(outcome)}\n`);
  writeSync(fd, line, 0, line.length, kept);
  return true;
}

/** Offset after the last newline among the first `end` bytes; 0 when there is none. */
function lastLineEnd(fd: number, end: number): number {
  for (let high = end, length = TAIL_BYTES; high > 0; length = BLOCK_BYTES) {
    const low = Math.max(0, high - length);
    const block = Buffer.allocUnsafe(high - low);
    readSync(fd, block, 0, block.length, low);
    const newline = block.lastIndexOf(NEWLINE);
    if (newline >= 0) return low + newline + 1;
    high = low;
  }
  return 0;
}

/** Whether the last of the whole lines is the end of the lines before it, and not of another file (after a power cut). */
function hasEnd(fd: number, whole: number): boolean {
  if (whole === 0) return false;
  const start = lastLineEnd(fd, whole - 1);
  const end = headAt(fd, start);
  const before = start === 0 ? 0 : numberOf(headAt(fd, lastLineEnd(fd, start - 1)));
  return splitLine(end).type === "end" && numberOf(end) === before + 1;
}

function headAt(fd: number, position: number): Buffer {
  const head = Buffer.alloc(32);
  readSync(fd, head, 0, head.length, position);
  return head;
}

function numberOf(line: Buffer): number {
  return Number.parseInt(line.toString("latin1", 0, 20), 10);
}

/** The entries up to the first that is not what was written (after a power cut), and the end that they need. */
function lostOutcome(fd: number, whole: number): { seq: number; size: number; outcome: Outcome } {
  let seq = 0;
  let size = 0;
  let startedAt: string | null = null;
  let lastAt: string | null = null;
  const bytes = { stdout: 0, stderr: 0 };
  for (const line of journalLines(fd, whole)) {
    const { type, json } = splitLine(line);
    const entry = numberOf(line) === seq + 1 ? parsed(json) : null;
    if (entry === null) break;
    if (type === "stdout" || type === "stderr") bytes[type] = bytesUpTo(entry);
    if (entry.status === "running") startedAt = entry.at ?? null;
    lastAt = entry.at ?? lastAt;
    seq += 1;
    size += line.length + 1;
  }
  const durationMs = startedAt === null || lastAt === null ? 0 : Date.parse(lastAt) - Date.parse(startedAt);
  const outcome: Outcome = {
    status: "crashed",
    exit_code: null,
    reason: "executor_lost",
    error_message: `the executor was lost while the execution ${startedAt === null ? "waited" : "ran"}`,
    started_at: startedAt,
    completed_at: new Date().toISOString(),
    metrics: { duration_ms: durationMs, cpu_time_ms: 0, peak_memory_mb: 0, io_read_bytes: 0, io_write_bytes: 0 },
    stdout_bytes: bytes.stdout,
    stderr_bytes: bytes.stderr,
    stdout_truncated: false,
    stderr_truncated: false,
    artifacts: [],
    timing: {},
  };
  return { seq, size, outcome };
}

type Entry = Partial<OutputPayload & JournalPayloads["status"]>;

function parsed(json: Buffer): Entry | null {
  try {
    return JSON.parse(json.toString("utf8")) as Entry;
  } catch {
    return null;
  }
}

function bytesUpTo({ text = "", data, offset = 0 }: Entry): number {
  return offset + (data === undefined ? Buffer.byteLength(text) : Uint8Array.fromBase64(data).length);
}
