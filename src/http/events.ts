import { Type } from "@sinclair/typebox";
import { AppError } from "../errors.ts";
import type { Execution } from "../executions/execution.ts";
import type { Executions } from "../executions/executions.ts";
import type { JournalEntry } from "../executions/journal-entry.ts";
import type { OutputPayload } from "../executor/protocol.ts";
import { parseWithin } from "../json-text.ts";
import type { Log } from "../log.ts";
import { endpoint, type Endpoint, type Exchange, type Reply } from "./endpoint.ts";
import { EVENT_STREAM_ANSWER } from "./event-answer.ts";
import { endText } from "./execution-view.ts";
import { oneOf } from "./schemas.ts";
import { eventStream, MEDIA_TYPES, type EventFormat } from "./sse.ts";

export type Following = { after: number; format: EventFormat; isBase64: boolean };

const MAX_SEQ = 999_999_999_999_999;

/** Answers with event streams. */
export class EventStreams {
  readonly #executions: Executions;
  readonly #log: Log;
  readonly #heartbeatMs: number;

  constructor(executions: Executions, log: Log, heartbeatMs: number) {
    this.#executions = executions;
    this.#log = log;
    this.#heartbeatMs = heartbeatMs;
  }

  /** The execution's events after number `after`. A client that leaves, or whose key is revoked, ends the reader, not the execution. */
  reply(call: Exchange, execution: Execution, following: Following, headers: Record<string, string> = {}): Reply {
    call.keepOpen();
    const leaving = new AbortController();
    const signal = AbortSignal.any([call.streamSignal, call.revoked, leaving.signal]);
    const finished = Promise.withResolvers<void>();
    const stream = eventStream(this.#executions.follow(call.tenant, execution.id, following.after, signal), {
      format: following.format,
      dataOf: (entry) => dataOf(entry, following.isBase64),
      heartbeatMs: this.#heartbeatMs,
      onEnd: (error) => {
        if (error !== undefined && !signal.aborted)
          this.#log.warn("http.events_cut", { request_id: call.requestId, execution_id: execution.id, error });
        leaving.abort();
        finished.resolve();
      },
    });
    return {
      status: 200,
      stream,
      finished: finished.promise,
      isEventStream: true,
      headers: {
        "Content-Type": MEDIA_TYPES[following.format],
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        ...headers,
      },
    };
  }
}

/** The event data of a journal entry, as JSON on one line. */
function dataOf(entry: JournalEntry, isBase64: boolean): string {
  if (entry.type === "end") return entry.execution === undefined ? entry.json : endText(entry.execution);
  if (entry.type !== "stdout" && entry.type !== "stderr") return entry.json;
  // Inside the text of a program `"` is written `\"`, so this finds the member `data` alone.
  if (!isBase64 && !entry.json.includes(',"data":"')) return entry.json;
  const { text, data, offset, at } = parseWithin(entry.json, 1) as OutputPayload;
  return JSON.stringify(
    isBase64 ? { data: data ?? Buffer.from(text).toString("base64"), offset, at } : { text, offset, at },
  );
}

/** The format that the client prefers by `Accept`: the one of the two that stands first, or `otherwise`. */
export function formatOf<T extends EventFormat | null>(headers: Headers, otherwise: T): EventFormat | T {
  for (const item of (headers.get("accept") ?? "").split(",")) {
    const type = item.split(";", 1)[0]?.trim().toLowerCase();
    if (type === MEDIA_TYPES.sse) return "sse";
    if (type === MEDIA_TYPES.ndjson || type === "application/ndjson" || type === "application/jsonl") return "ndjson";
  }
  return otherwise;
}

/** The number after which to go on: `Last-Event-ID` if there is one, else `after`. */
function afterOf(headers: Headers, after: number | undefined): number {
  const last = headers.get("last-event-id")?.trim() ?? "";
  if (last === "") return after ?? 0;
  if (!/^\d{1,15}$/.test(last)) throw new AppError("bad_request", "Last-Event-ID must be the number of an event");
  return Number(last);
}

/** Routes of the event stream. */
export function eventEndpoints(executions: Executions, streams: EventStreams): Endpoint[] {
  return [
    endpoint({
      method: "GET",
      path: "/api/v1/executions/:execution_id/events",
      tag: "executions",
      summary: "Follow an execution's events, live or after the fact",
      description:
        "Events are numbered contiguously from 1 and every output event has its byte offset, so a client can prove that " +
        "nothing is missing. `end` is always the last; a stream that closes without it was cut: reconnect with the last " +
        "number. When nothing happens a comment (SSE) or an empty line (newline-delimited JSON) comes at least every 15 s.",
      query: Type.Object({
        after: Type.Optional(
          Type.Integer({ minimum: 0, maximum: MAX_SEQ, default: 0, description: "Number of the last event seen." }),
        ),
        encoding: Type.Optional(
          Object.assign(oneOf(["text", "base64"]), {
            default: "text",
            description: "base64: output events have the true bytes as `data` in place of `text`.",
          }),
        ),
      }),
      headers: {
        "Last-Event-ID": "Number of the last event seen; wins over `after`.",
        Accept: "`text/event-stream` (the default) or `application/x-ndjson`.",
      },
      answers: { 200: EVENT_STREAM_ANSWER },
      errors: ["bad_request", "validation_failed", "execution_not_found"],
      async handle(call) {
        const { headers } = call.request;
        const after = afterOf(headers, call.query.after);
        const execution = await executions.get(call.tenant, call.params.execution_id);
        const isBase64 = call.query.encoding === "base64";
        return streams.reply(call, execution, { after, format: formatOf(headers, "sse"), isBase64 });
      },
    }),
  ];
}
