import type { Execution } from "./execution.ts";
import type { JournalEntry } from "./journal-entry.ts";

/** UTF-16 units of output in one entry. */
const PIECE_UNITS = 64 * 1024;
/** Every journal begins with these: `pending` and, if the execution started, `running`. */
const STATUSES = 2;

/**
 * The events of an ended execution whose journal is gone, one batch each, from the record: contiguous after `after`, which is 1 or
 * more. The record does not know how the output was divided, so a reader who has a part of it gets it again from its
 * beginning, as the offsets say; one who lacks no more than the end gets that alone.
 */
export function* recordedEvents(execution: Execution, after: number): Generator<JournalEntry[]> {
  const { started_at: startedAt, return_value: value } = execution;
  const at = execution.completed_at ?? execution.created_at;
  let seq = after;
  const entry = (type: JournalEntry["type"], json: string): JournalEntry[] => [{ seq: ++seq, type, json }];
  const lacksOutput = after < (execution.last_seq ?? Number.POSITIVE_INFINITY) - 1;
  if (lacksOutput && after < STATUSES && startedAt !== null)
    yield entry("status", JSON.stringify({ status: "running", at: startedAt }));
  for (const stream of lacksOutput ? (["stdout", "stderr"] as const) : []) {
    let offset = 0;
    for (const text of pieces(execution[stream])) {
      yield entry(stream, JSON.stringify({ text, offset, at }));
      offset += Buffer.byteLength(text);
    }
  }
  if (lacksOutput && value !== null) yield entry("result", `{"return_value":${value}}`);
  yield entry("end", "{}").map((end) => ({ ...end, execution }));
}

/** Cut between characters. */
function* pieces(text: string): Generator<string> {
  for (let start = 0; start < text.length;) {
    let end = Math.min(start + PIECE_UNITS, text.length);
    const last = text.charCodeAt(end - 1);
    if (end < text.length && last >= 0xd800 && last <= 0xdbff) end -= 1;
    yield text.slice(start, end);
    start = end;
  }
}
