import type { JournalType } from "../executor/protocol.ts";
import type { Execution } from "./execution.ts";

/** One entry of an execution's journal. `json` is one line; an `end` entry carries the execution as it ended. */
export type JournalEntry = { seq: number; type: JournalType; json: string; execution?: Execution };

const NEWLINE = 0x0a;

/**
 * Splits a journal stream (lines of `SEQ TYPE JSON`, see executor/protocol.ts) into batches of entries, one batch a chunk
 * read. Returns when the stream ends; a line that was cut is dropped. Leaving the loop early cancels the stream.
 */
export async function* readJournal(stream: ReadableStream<Uint8Array>): AsyncGenerator<JournalEntry[]> {
  const decoder = new TextDecoder();
  let pending: Uint8Array[] = [];
  for await (const chunk of stream) {
    const lastNewline = chunk.lastIndexOf(NEWLINE);
    if (lastNewline < 0) {
      pending.push(chunk);
      continue;
    }
    pending.push(chunk.subarray(0, lastNewline));
    const whole = pending.length === 1 ? pending[0] : Buffer.concat(pending);
    pending = lastNewline + 1 < chunk.length ? [chunk.subarray(lastNewline + 1)] : [];
    yield decoder.decode(whole).split("\n").map(parseLine);
  }
}

function parseLine(line: string): JournalEntry {
  const typeAt = line.indexOf(" ") + 1;
  const jsonAt = line.indexOf(" ", typeAt) + 1;
  return {
    seq: Number(line.slice(0, typeAt - 1)),
    type: line.slice(typeAt, jsonAt - 1) as JournalType,
    json: line.slice(jsonAt),
  };
}
