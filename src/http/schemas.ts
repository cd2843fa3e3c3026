import { Type, type Static, type TLiteral, type TSchema, type TUnion } from "@sinclair/typebox";
import type { ErrorCode } from "../errors.ts";
import type { Answer } from "./endpoint.ts";

/** Schemas that several routes share. One with `$id` becomes a component of the OpenAPI document under that name. */

/** One of the given words; documents show `example`, or else the first. */
export function oneOf<const T extends readonly string[]>(
  words: T,
  example?: NoInfer<T[number]>,
): TUnion<TLiteral<T[number]>[]> {
  return Type.Union(
    words.map((word) => Type.Literal(word as T[number])),
    example === undefined ? {} : { examples: [example] },
  );
}

/** The type, or null; documents show `example`, or else null. */
export function orNull<T extends TSchema>(schema: T, example?: Static<T>) {
  return Type.Union([schema, Type.Null()], example === undefined ? {} : { examples: [example] });
}

export const INSTANT = "2026-01-31T12:00:00.000Z";
/** An instant in an answer. */
export const Instant = Type.String({ format: "date-time", examples: [INSTANT] });

export const SessionId = Type.String({ examples: ["sess_20260131_0a1b2c3d"] });
export const ExecutionId = Type.String({ examples: ["exec_20260131120000_0a1b2c3d"] });
export const Version = Type.String({ examples: ["1.0.0"] });

/** Bytes of a file. */
export const Bytes = Type.String({ format: "binary", examples: ["city,total\nOslo,12\n"] });

/** Environment variables: names that a shell takes. */
export const EnvVars = Type.Record(Type.String({ pattern: "^[A-Za-z_][A-Za-z0-9_]*$" }), Type.String(), {
  additionalProperties: false,
  description: "Environment variables. Loader variables (LD_*) are refused with 400.",
  examples: [{ REGION: "eu-1" }],
});

/** Where code may connect to; as a template's, the default of its sessions. */
export const Network = Type.Object(
  {
    allow: Type.Array(Type.String({ maxLength: 300 }), {
      maxItems: 100,
      description:
        "Host names, names below one, addresses or ranges, each with an optional port (else 80 and 443), that code may reach through the proxy in HTTP_PROXY and HTTPS_PROXY. Empty: nothing.",
      examples: [["pypi.org", "*.example.com:443"]],
    }),
  },
  { $id: "Network" },
);

/** Environment variables in an answer. */
export const EnvVarsShown = Type.Record(Type.String(), Type.String(), { examples: [{ REGION: "eu-1" }] });

const MAX_LIMIT = 200;
const MAX_OFFSET = 2_147_483_647;

/** Query fields of a list in pages. */
export const PageQuery = {
  limit: Type.Optional(Type.Integer({ default: 50, description: `Items of a page, clamped to 1–${MAX_LIMIT}.` })),
  offset: Type.Optional(Type.Integer({ default: 0, minimum: 0, maximum: MAX_OFFSET, description: "Items to skip." })),
};

/** The page that a query asks for. */
export function pageOf(query: { limit?: number; offset?: number }): { limit: number; offset: number } {
  return { limit: Math.min(MAX_LIMIT, Math.max(1, query.limit ?? 50)), offset: query.offset ?? 0 };
}

/** A page of items as it is answered (contract: items, total, limit, offset, has_more). */
export function pageReply<T>(listed: { items: T[]; total: number }, page: { limit: number; offset: number }) {
  const { items, total } = listed;
  return { items, total, ...page, has_more: page.offset + items.length < total };
}

/** The schema of a page of items, as `pageReply` and `pageStream` answer it. */
export function PageOf<T extends TSchema>(item: T) {
  return Type.Object({
    items: Type.Array(item),
    total: Type.Integer({ examples: [1] }),
    limit: Type.Integer({ examples: [50] }),
    offset: Type.Integer({ examples: [0] }),
    has_more: Type.Boolean(),
  });
}

/** An answer whose body is JSON. */
export function jsonAnswer(description: string, schema: TSchema, example?: unknown): Answer {
  return { description, content: { "application/json": { schema, ...(example === undefined ? {} : { example }) } } };
}

/** Errors that any route may answer which reads a body. */
export const BODY_ERRORS = [
  "malformed_json",
  "body_too_large",
  "request_timeout",
  "unsupported_media_type",
  "validation_failed",
] as const satisfies readonly ErrorCode[];
