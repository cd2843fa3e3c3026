import type { Static, TObject, TSchema } from "@sinclair/typebox";
import type { ErrorCode } from "../errors.ts";
import { memberOf, type RawJson } from "../json-text.ts";
import type { RouteAccess } from "./auth.ts";
import { readJson } from "./body.ts";
import { compileBody, compileQuery } from "./validation.ts";

/** One request on its way through an endpoint. */
export type Exchange = {
  request: Request;
  /** Path and query as they were sent, percent-encoded; `search` starts with `?` or is empty. */
  path: string;
  search: string;
  requestId: string;
  tenant: string;
  /** Aborts when the client has left, or the server stops and waits no longer. */
  readonly signal: AbortSignal;
  /** Aborts some seconds after the caller's key was revoked: for answers that stream. */
  readonly revoked: AbortSignal;
  /** Aborts when the client has left, or the server stops and its streams are to be read elsewhere. */
  readonly streamSignal: AbortSignal;
  /** Lifts the connection's idle time-out until the reply is sent: for calls that wait or stream. */
  keepOpen(): void;
  maxBodyBytes: number;
  /** The body as it arrives, empty when there is none: as slow as a client may be, and no slower (`request_timeout`). */
  receive: () => ReadableStream<Uint8Array>;
  /** The same of a small body as text. */
  receiveText: () => Promise<string>;
};

/** An answer as JSON (or without a body), or as a stream of bytes. `timing` is milliseconds by phase, for Server-Timing. */
export type Reply = {
  status: number;
  json?: unknown;
  /** In place of `json`: its text. */
  jsonText?: RawJson;
  stream?: ReadableStream<Uint8Array> | Blob;
  /** Resolves when the stream has ended or its reader has left. */
  finished?: Promise<void>;
  headers?: Record<string, string>;
  timing?: Record<string, number>;
  /** Of an error. */
  code?: ErrorCode;
  /** Text of a content type other than JSON; `headers` names it. */
  text?: string;
  /** The stream is one of events, whose readers are counted. */
  isEventStream?: boolean;
};

type NamesIn<P extends string> = P extends `${string}:${infer Name}/${infer Rest}`
  ? Name | NamesIn<Rest>
  : P extends `${string}:${infer Name}`
    ? Name
    : P extends `${string}*`
      ? "*"
      : never;

type Call<P extends string, B extends TSchema, Q extends TObject> = Exchange & {
  /** Path parameters, percent-decoded; `*` is the raw rest of the path. */
  params: Record<NamesIn<P>, string>;
  body: Static<B>;
  /** What was sent as the spec's `textMember`. */
  member: RawJson | null;
  query: Static<Q>;
};

/** What the OpenAPI document says of one answer. */
export type Answer = { description: string; content?: Record<string, { schema: TSchema; example?: unknown }> };

type Method = "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";

type Spec<P extends string, B extends TObject, Q extends TObject> = {
  method: Method;
  /** With `:name` parameters and perhaps a final `*`. */
  path: P;
  tag: string;
  summary: string;
  description?: string;
  /** `key` unless given (contract, Access). */
  access?: RouteAccess;
  /** JSON body. Unknown fields are ignored; null for an optional field is as if it were absent. */
  body?: B;
  /** A field of the body that `handle` gets as its text too, for the digits that a parsed number loses. */
  textMember?: keyof B["properties"] & string;
  query?: Q;
  /** Request headers that matter, by name, with what they do. */
  headers?: Record<string, string>;
  /** A body that the handler reads itself, by content type. */
  rawBody?: Record<string, TSchema>;
  answers: Record<number, Answer>;
  errors: readonly ErrorCode[];
  handle: (call: Call<P, B, Q>) => Reply | Promise<Reply>;
};

/** A route with all that the server and the OpenAPI document need to know of it. */
export type Endpoint = Omit<Spec<string, TObject, TObject>, "handle"> & {
  run(exchange: Exchange, params: Record<string, string>): Promise<Reply>;
};

/** Compiles the schemas of a route; `handle` sees a body and a query that satisfy them. */
export function endpoint<P extends string, B extends TObject = TObject<{}>, Q extends TObject = TObject<{}>>(
  spec: Spec<P, B, Q>,
): Endpoint {
  const checkBody = spec.body === undefined ? null : compileBody(spec.body);
  const readQuery = spec.query === undefined ? null : compileQuery(spec.query);
  const { handle, textMember, ...described } = spec;
  return {
    ...described,
    async run(exchange, params) {
      const query = readQuery === null ? {} : readQuery(exchange.search);
      const call = exchange as Call<P, B, Q>;
      call.body = {};
      if (checkBody !== null) {
        const { value, text } = await readJson(exchange, exchange.maxBodyBytes);
        call.body = checkBody(value);
        call.member = textMember === undefined ? null : memberOf(text, textMember);
      }
      call.params = params;
      call.query = query;
      return handle(call);
    },
  };
}
