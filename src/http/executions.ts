import { Type, type Static } from "@sinclair/typebox";
import { AppError } from "../errors.ts";
import { isLive, type Execution } from "../executions/execution.ts";
import type { ExecutionInput, Executions, Wait } from "../executions/executions.ts";
import { LANGUAGES } from "../executor/protocol.ts";
import type { RawJson } from "../json-text.ts";
import { endpoint, type Endpoint, type Exchange } from "./endpoint.ts";
import { ErrorWithHeaders } from "./errors.ts";
import { EVENT_STREAM_ANSWER } from "./event-answer.ts";
import { formatOf, type EventStreams } from "./events.ts";
import { ExecutionView, executionText, PENDING_EXAMPLE } from "./execution-view.ts";
import { pageStream } from "./page-stream.ts";
import {
  BODY_ERRORS,
  EnvVars,
  ExecutionId,
  Instant,
  jsonAnswer,
  oneOf,
  PageOf,
  pageOf,
  PageQuery,
  SessionId,
} from "./schemas.ts";

const MAX_CODE = 1_048_576;
const MAX_TIMEOUT_S = 3600;
const DEFAULT_TIMEOUT_S = 30;
const DEFAULT_SYNC_TIMEOUT_S = 300;
const MAX_KEY = 255;

const Input = Type.Object(
  {
    code: Type.String({ minLength: 1, maxLength: MAX_CODE }),
    language: oneOf(LANGUAGES),
    timeout: Type.Optional(
      Type.Integer({ minimum: 1, maximum: MAX_TIMEOUT_S, default: DEFAULT_TIMEOUT_S, description: "Seconds." }),
    ),
    event: Type.Optional(
      Type.Object(
        {},
        { additionalProperties: true, description: "Given to `handler`; shell code has it as EVENT_JSON." },
      ),
    ),
    env_vars: Type.Optional(EnvVars),
    stdin: Type.Optional(Type.String()),
  },
  {
    $id: "ExecutionInput",
    examples: [{ language: "python", code: "def handler(event):\n    return event['n'] + 1", event: { n: 1 } }],
  },
);

type Body = Static<typeof Input>;
type Submission = Exchange & { body: Body; member: RawJson | null };

const SUBMIT_ERRORS = [
  ...BODY_ERRORS,
  "bad_request",
  "invalid_environment",
  "session_not_found",
  "session_ended",
  "idempotency_conflict",
  "queue_full",
  "execution_limit",
  "executor_unavailable",
] as const;

const IDEMPOTENCY_HEADER = {
  "Idempotency-Key": "The same key in the same session gives the same execution, run once.",
};

/** Routes of executions. */
export function executionEndpoints(executions: Executions, streams: EventStreams): Endpoint[] {
  const tag = "executions";
  const one = jsonAnswer("The execution.", ExecutionView);

  const submitted = (call: Submission, sessionId: string, wait?: Wait) =>
    executions.submit(
      call.tenant,
      sessionId,
      inputOf(call.body, call.member),
      idempotencyKeyOf(call.request.headers),
      wait,
    );
  const ended = (call: Submission, sessionId: string, waitS: number) => {
    call.keepOpen();
    return submitted(call, sessionId, { waitMs: waitS * 1000, signal: call.signal });
  };

  const submit = endpoint({
    method: "POST",
    path: "/api/v1/sessions/:session_id/executions",
    tag,
    summary: "Run code in a session",
    description:
      "Answers 201 at once. With `wait`, 200 when it has ended, else 202 with its present state. With " +
      "`Accept: text/event-stream` (or `application/x-ndjson`), 200 and the stream of its events from the first.",
    query: Type.Object({
      wait: Type.Optional(Type.Number({ minimum: 0, maximum: 3600, description: "Seconds to wait for the end." })),
    }),
    headers: { ...IDEMPOTENCY_HEADER, Accept: "`text/event-stream` or `application/x-ndjson` to follow it at once." },
    body: Input,
    textMember: "event",
    answers: {
      200: {
        description: "The execution, ended; or its events.",
        content: { ...one.content, ...EVENT_STREAM_ANSWER.content },
      },
      201: jsonAnswer("The execution, accepted.", ExecutionView, PENDING_EXAMPLE),
      202: jsonAnswer("The execution, which has not ended within `wait`.", ExecutionView, PENDING_EXAMPLE),
    },
    errors: SUBMIT_ERRORS,
    async handle(call) {
      const format = formatOf(call.request.headers, null);
      const { wait } = call.query;
      if (format === null && wait !== undefined) {
        const last = await ended(call, call.params.session_id, wait);
        return reply(isLive(last) ? 202 : 200, last);
      }
      const execution = await submitted(call, call.params.session_id);
      if (format === null) return reply(201, execution);
      return streams.reply(call, execution, { after: 0, format, isBase64: false }, locationOf(execution));
    },
  });

  const execute = endpoint({
    method: "POST",
    path: "/api/v1/executions/sessions/:session_id/execute",
    tag,
    summary: "Run code in a session; answers its id at once",
    headers: IDEMPOTENCY_HEADER,
    body: Input,
    textMember: "event",
    answers: {
      201: jsonAnswer(
        "The execution, accepted.",
        Type.Object({
          execution_id: ExecutionId,
          session_id: SessionId,
          status: Type.String({ examples: ["pending"] }),
          created_at: Instant,
        }),
      ),
    },
    errors: SUBMIT_ERRORS,
    async handle(call) {
      const { id, session_id, status, created_at } = await submitted(call, call.params.session_id);
      const headers = locationOf({ id });
      return { status: 201, json: { execution_id: id, session_id, status, created_at }, headers };
    },
  });

  const executeSync = endpoint({
    method: "POST",
    path: "/api/v1/executions/sessions/:session_id/execute-sync",
    tag,
    summary: "Run code in a session and wait for its end",
    description: "Past `sync_timeout` it answers 408, whose message names the execution; that goes on.",
    query: Type.Object({
      poll_interval: Type.Optional(
        Type.Number({
          minimum: 0.1,
          maximum: 10,
          default: 0.5,
          description: "Has no effect: the answer comes at once.",
        }),
      ),
      sync_timeout: Type.Optional(
        Type.Number({ minimum: 10, maximum: 3600, default: DEFAULT_SYNC_TIMEOUT_S, description: "Seconds." }),
      ),
    }),
    headers: IDEMPOTENCY_HEADER,
    body: Input,
    textMember: "event",
    answers: { 200: { ...one, description: "The execution, in any terminal state." } },
    errors: [...SUBMIT_ERRORS, "sync_timeout"],
    async handle(call) {
      const waitS = call.query.sync_timeout ?? DEFAULT_SYNC_TIMEOUT_S;
      const last = await ended(call, call.params.session_id, waitS);
      if (!isLive(last)) return reply(200, last);
      const message = call.signal.aborted
        ? `execution ${last.id} goes on; this replica of the service ends and can't wait for it`
        : `execution ${last.id} has not ended within ${waitS} s; it goes on`;
      throw new ErrorWithHeaders("sync_timeout", message, locationOf(last));
    },
  });

  const reads = (["", "/status", "/result"] as const).map((suffix) =>
    endpoint({
      method: "GET",
      path: `/api/v1/executions/:execution_id${suffix}`,
      tag,
      summary: `Read an execution, in any state${suffix === "" ? "" : " (the same under an older path)"}`,
      answers: { 200: one },
      errors: ["execution_not_found"],
      handle: async ({ tenant, params }) => ({
        status: 200,
        jsonText: executionText(await executions.get(tenant, params.execution_id)),
      }),
    }),
  );

  const lists = (
    ["/api/v1/sessions/:session_id/executions", "/api/v1/executions/sessions/:session_id/executions"] as const
  ).map((path) =>
    endpoint({
      method: "GET",
      path,
      tag,
      summary: "List a session's executions, newest first",
      query: Type.Object(PageQuery),
      answers: { 200: jsonAnswer("A page of executions.", PageOf(ExecutionView)) },
      errors: ["validation_failed", "session_not_found"],
      async handle({ tenant, params, query }) {
        const page = pageOf(query);
        const listed = await executions.list(tenant, params.session_id, page);
        const stream = pageStream(listed, page, executionText);
        return { status: 200, stream, headers: { "Content-Type": "application/json" } };
      },
    }),
  );

  const cancel = endpoint({
    method: "POST",
    path: "/api/v1/executions/:execution_id/cancel",
    tag,
    summary: "End an execution; answers when no process of it is left",
    answers: { 200: { ...one, description: "The execution; one that had ended already, unchanged." } },
    errors: ["execution_not_found", "executor_unavailable"],
    async handle(call) {
      call.keepOpen();
      return { status: 200, jsonText: executionText(await executions.cancel(call.tenant, call.params.execution_id)) };
    },
  });

  return [submit, execute, executeSync, ...reads, ...lists, cancel];
}

function inputOf(body: Body, event: RawJson | null): ExecutionInput {
  return {
    code: body.code,
    language: body.language,
    timeout: body.timeout ?? DEFAULT_TIMEOUT_S,
    event,
    env_vars: body.env_vars ?? {},
    stdin: body.stdin ?? "",
  };
}

function idempotencyKeyOf(headers: Headers): string | null {
  const key = headers.get("idempotency-key");
  if (key === null || key === "") return null;
  if (key.length > MAX_KEY) throw new AppError("bad_request", `Idempotency-Key may have at most ${MAX_KEY} characters`);
  return key;
}

function locationOf(execution: Pick<Execution, "id">): Record<string, string> {
  return { Location: `/api/v1/executions/${execution.id}` };
}

function reply(status: number, execution: Execution) {
  return { status, jsonText: executionText(execution), headers: locationOf(execution), timing: execution.timing };
}
