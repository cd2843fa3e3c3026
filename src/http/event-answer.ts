import { Type } from "@sinclair/typebox";
import type { Answer } from "./endpoint.ts";
import { EndedView } from "./execution-view.ts";
import { Instant, oneOf } from "./schemas.ts";
import { MEDIA_TYPES } from "./sse.ts";

const AT = "2026-01-31T12:00:00.000Z";
const Offset = Type.Integer({ minimum: 0, description: "Bytes of this stream before this event." });

const StatusEvent = Type.Object({ status: oneOf(["pending", "running"]), at: Instant }, { $id: "StatusEvent" });
const OutputEvent = Type.Object({ text: Type.String(), offset: Offset, at: Instant }, { $id: "OutputEvent" });
const OutputBytesEvent = Type.Object(
  { data: Type.String({ description: "The bytes as they are, base64." }), offset: Offset, at: Instant },
  { $id: "OutputBytesEvent", description: "In place of OutputEvent with `?encoding=base64`." },
);
const ResultEvent = Type.Object({ return_value: Type.Unknown() }, { $id: "ResultEvent" });

/** The data of the event types, by the name of the type. */
const Event = Type.Union(
  [
    Type.Object({ seq: Type.Integer({ minimum: 1 }), type: Type.Literal("status"), data: StatusEvent }),
    Type.Object({
      seq: Type.Integer({ minimum: 1 }),
      type: oneOf(["stdout", "stderr"]),
      data: Type.Union([OutputEvent, OutputBytesEvent]),
    }),
    Type.Object({ seq: Type.Integer({ minimum: 1 }), type: Type.Literal("result"), data: ResultEvent }),
    Type.Object({ seq: Type.Integer({ minimum: 1 }), type: Type.Literal("end"), data: EndedView }),
  ],
  { $id: "Event" },
);

const EXAMPLES: [string, unknown][] = [
  ["status", { status: "pending", at: AT }],
  ["status", { status: "running", at: AT }],
  ["stdout", { text: "hello\n", offset: 0, at: AT }],
  ["stderr", { text: "careful\n", offset: 0, at: AT }],
  ["result", { return_value: { n: 2 } }],
  ["end", { id: "exec_20260131120000_0a1b2c3d", status: "completed", exit_code: 0, return_value: { n: 2 } }],
];

/** What the OpenAPI document says of an event stream, with one example of each type. */
export const EVENT_STREAM_ANSWER = {
  description: "The stream of events.",
  content: {
    [MEDIA_TYPES.sse]: {
      schema: Type.String({ description: "`id: SEQ`, `event: TYPE` and `data: JSON`, as the schema Event has them." }),
      example: EXAMPLES.map(
        ([type, data], i) => `id: ${i + 1}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`,
      ).join(""),
    },
    [MEDIA_TYPES.ndjson]: {
      schema: Event,
      example: EXAMPLES.map(([type, data], i) => `${JSON.stringify({ seq: i + 1, type, data })}\n`).join(""),
    },
  },
} satisfies Answer;
