import type { JournalEntry } from "../executions/journal-entry.ts";
import { within } from "../within.ts";

/** How events are written: server-sent events, or one JSON object a line. */
export type EventFormat = "sse" | "ndjson";

export const MEDIA_TYPES: Record<EventFormat, string> = {
  sse: "text/event-stream",
  ndjson: "application/x-ndjson",
};

/** Written when there is no event to write: a comment, or an empty line. Readers skip both. */
const HEARTBEAT: Record<EventFormat, string> = { sse: ": heartbeat\n\n", ndjson: "\n" };

/** How long the first bytes may take: then a heartbeat goes out in their place, and with it the headers. */
const FIRST_BYTES_MS = 5;

/** The last words of a stream that closes without `end`: browsers reconnect after `retry` milliseconds. */
const CUT: Record<EventFormat, string> = { sse: ": reconnect with Last-Event-ID\nretry: 200\n\n", ndjson: "\n" };

/**
 * An entry as an event. `json` is JSON on one line (JSON.stringify escapes every line break), so that nothing which a
 * program prints can end the event or begin another.
 */
function frame(format: EventFormat, entry: JournalEntry, json: string): string {
  return format === "sse"
    ? `id: ${entry.seq}\nevent: ${entry.type}\ndata: ${json}\n\n`
    : `{"seq":${entry.seq},"type":"${entry.type}","data":${json}}\n`;
}

export type EventStreamOptions = {
  format: EventFormat;
  /** The data of an event as JSON on one line. */
  dataOf: (entry: JournalEntry) => string;
  heartbeatMs: number;
  /** Called once, when the stream has ended or its reader has left; with what was thrown, if anything was. */
  onEnd: (error?: unknown) => void;
};

/**
 * The bytes of an event stream. Batches are asked for only as the client reads, so a slow one holds no more than one
 * batch. A batch that does not come in time is bridged by heartbeats. When `batches` ends or throws before the `end`
 * entry, the stream closes without that event, which tells the client to reconnect.
 */
export function eventStream(
  batches: AsyncIterable<JournalEntry[]>,
  options: EventStreamOptions,
): ReadableStream<Uint8Array> {
  const { format, dataOf, heartbeatMs } = options;
  const iterator = batches[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  let coming: Promise<IteratorResult<JournalEntry[]>> | null = null;
  let isFirst = true;
  let isWhole = false;
  let hasEnded = false;
  const end = (error?: unknown): void => {
    if (hasEnded) return;
    hasEnded = true;
    options.onEnd(error);
  };
  const close = (controller: ReadableStreamDefaultController<Uint8Array>, error?: unknown): void => {
    if (!isWhole && !hasEnded) controller.enqueue(encoder.encode(CUT[format]));
    end(error);
    controller.close();
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          coming ??= iterator.next();
          const next = await within(isFirst ? FIRST_BYTES_MS : heartbeatMs, coming);
          isFirst = false;
          if (next === undefined) return controller.enqueue(encoder.encode(HEARTBEAT[format]));
          coming = null;
          if (next.done === true) return close(controller);
          isWhole = next.value.at(-1)?.type === "end";
          let text = "";
          for (const entry of next.value) text += frame(format, entry, dataOf(entry));
          controller.enqueue(encoder.encode(text));
        } catch (error) {
          close(controller, error);
        }
      },
      cancel() {
        end();
        // What it fails with now has nobody left to be told.
        iterator.return?.().catch(() => {});
      },
    },
    { highWaterMark: 0 },
  );
}
