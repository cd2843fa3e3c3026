import { AppError } from "../errors.ts";
import type { JournalType } from "../executor/protocol.ts";
import { HeldBuffer } from "../held-buffer.ts";
import type { Execution } from "./execution.ts";

/** One entry of an execution's journal. `json` is one line; an `end` entry carries the execution as it ended. */
export type JournalEntry = { seq: number; type: JournalType; json: string; execution?: Execution };

/** What no executor of ours writes: the one that sent it is not to be trusted with this execution any more. */
export class JournalFault extends AppError {
  constructor(what: string, cause?: unknown) {
    super("executor_unavailable", `the journal can't be read: ${what}`, { cause });
    this.name = "JournalFault";
  }
}

const NEWLINE = 0x0a;
/** Longer than any entry: a result has up to 10 MiB, and an end names up to 1000 files. */
const MAX_LINE_BYTES = 32 * 1024 * 1024;
const TYPES: ReadonlySet<string> = new Set(["status", "stdout", "stderr", "result", "end"] satisfies JournalType[]);

/**
 * Splits a journal stream (lines of `SEQ TYPE JSON`, see executor/protocol.ts) into batches of entries, one batch a chunk
 * read. Returns when the stream ends; a line that was cut is dropped. Leaving the loop early cancels the stream. Whoever
 * sends it, memory is bounded by the longest line; throws JournalFault for what is no journal.
 */
export async function* readJournal(stream: ReadableStream<Uint8Array>): AsyncGenerator<JournalEntry[]> {
  const decoder = new TextDecoder();
  const cut = new HeldBuffer();
  let previous: number | null = null;
  try {
    for await (const chunk of stream) {
      const lastNewline = chunk.lastIndexOf(NEWLINE);
      if (cut.size + (lastNewline < 0 ? chunk.length : chunk.indexOf(NEWLINE)) > MAX_LINE_BYTES)
        throw new JournalFault(`a line is longer than ${MAX_LINE_BYTES} bytes`);
      if (lastNewline < 0) {
        cut.add(chunk);
        continue;
      }
      const whole = cut.take(chunk.subarray(0, lastNewline));
      if (lastNewline + 1 < chunk.length) cut.add(chunk.subarray(lastNewline + 1));
      const batch = decoder.decode(whole).split("\n").map(parseLine);
      for (const { seq } of batch) {
        if (previous !== null && seq !== previous + 1) throw new JournalFault(`${seq} follows ${previous}`);
        previous = seq;
      }
      yield batch;
    }
  } finally {
    cut.clear();
  }
}

function parseLine(line: string): JournalEntry {
  const typeAt = line.indexOf(" ") + 1;
  const jsonAt = line.indexOf(" ", typeAt) + 1;
  const seq = Number(line.slice(0, Math.max(typeAt - 1, 0)));
  const type = line.slice(typeAt, jsonAt - 1);
  // In an event stream a carriage return would begin a line, and with it an event of its own.
  if (!Number.isSafeInteger(seq) || seq < 1 || !TYPES.has(type) || line.includes("\r"))
    throw new JournalFault("a line is no entry");
  return { seq, type: type as JournalType, json: line.slice(jsonAt) };
}
