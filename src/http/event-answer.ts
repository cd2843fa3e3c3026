import { Type } from "@sinclair/typebox";
import type { Answer } from "./endpoint.ts";
import { EndedView } from "./execution-view.ts";
import { exampleOf } from "./example.ts";
import { Instant, INSTANT, oneOf } from "./schemas.ts";
import { MEDIA_TYPES } from "./sse.ts";

const Seq = Type.Integer({ minimum: 1 });
const Offset = Type.Integer({ minimum: 0, description: "Bytes of this stream before this event." });

const StatusEvent = Type.Object({ status: oneOf(["pending", "running"]), at: Instant }, { $id: "StatusEvent" });
const OutputEvent = Type.Object({ text: Type.String(), offset: Offset, at: Instant }, { $id: "OutputEvent" });
const OutputBytesEvent = Type.Object(
  { data: Type.String({ description: "The bytes as they are, base64." }), offset: Offset, at: Instant },
  { $id: "OutputBytesEvent", description: "In place of OutputEvent with `?encoding=base64`." },
);
const ResultEvent = Type.Object({ return_value: Type.Unknown() }, { $id: "ResultEvent" });

const ENDED = exampleOf(EndedView);

/** One event of each type. */
const EXAMPLES = [
  { seq: 1, type: "status", data: { status: "pending", at: INSTANT } },
  { seq: 2, type: "status", data: { status: "running", at: INSTANT } },
  { seq: 3, type: "stdout", data: { text: "hello\n", offset: 0, at: INSTANT } },
  { seq: 4, type: "stderr", data: { text: "careful\n", offset: 0, at: INSTANT } },
  { seq: 5, type: "result", data: { return_value: { n: 2 } } },
  { seq: 6, type: "end", data: ENDED },
];

/** Number, type and data of an event, by the name of the type. */
const Event = Type.Union(
  [
    Type.Object({ seq: Seq, type: Type.Literal("status"), data: StatusEvent }),
    Type.Object({
      seq: Seq,
      type: oneOf(["stdout", "stderr"]),
      data: Type.Union([OutputEvent, OutputBytesEvent]),
    }),
    Type.Object({ seq: Seq, type: Type.Literal("result"), data: ResultEvent }),
    Type.Object({ seq: Seq, type: Type.Literal("end"), data: EndedView }),
  ],
  { $id: "Event", examples: EXAMPLES },
);

/** What the OpenAPI document says of an event stream, with one example of each type. */
export const EVENT_STREAM_ANSWER = {
  description: "The stream of events.",
  content: {
    [MEDIA_TYPES.sse]: {
      schema: Type.String({ description: "`id: SEQ`, `event: TYPE` and `data: JSON`, as the schema Event has them." }),
      example: EXAMPLES.map(
        ({ seq, type, data }) => `id: ${seq}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`,
      ).join(""),
    },
    [MEDIA_TYPES.ndjson]: {
      schema: Type.String({
        description: "Each line is an Event.",
        contentMediaType: "application/json",
        contentSchema: Event,
      }),
      example: EXAMPLES.map((event) => `${JSON.stringify(event)}\n`).join(""),
    },
  },
} satisfies Answer;
