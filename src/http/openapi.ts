import { Type, type TObject, type TSchema } from "@sinclair/typebox";
import { ERROR_STATUS, type ErrorCode } from "../errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { errorExample } from "./error-examples.ts";
import { exampleOf } from "./example.ts";
import { SchemaWriter, type JsonSchema } from "./json-schema.ts";
import { oneOf } from "./schemas.ts";

export type OpenApiDocument = {
  openapi: string;
  info: { title: string; version: string; description: string };
  paths: Record<string, Record<string, Operation>>;
  [name: string]: unknown;
};

export type Operation = {
  operationId: string;
  tags: string[];
  summary: string;
  description?: string;
  security?: unknown[];
  parameters?: {
    name: string;
    in: string;
    required: boolean;
    description?: string;
    schema: JsonSchema;
    example?: unknown;
  }[];
  requestBody?: { required: boolean; content: Record<string, Media> };
  responses: Record<
    string,
    { description: string; headers?: Record<string, { $ref: string }>; content?: Record<string, Media> }
  >;
};

type Media = {
  schema: JsonSchema;
  example?: unknown;
  examples?: Record<string, { $ref: string } | { value: unknown }>;
};

const CODES = Object.keys(ERROR_STATUS) as ErrorCode[];

const Issue = Type.Object(
  {
    type: Type.String({ examples: ["greater_than_equal"] }),
    loc: Type.Array(Type.Union([Type.String(), Type.Integer()]), { examples: [["body", "timeout"]] }),
    msg: Type.String({ examples: ["Input should be greater than or equal to 1"] }),
  },
  { $id: "ValidationIssue" },
);

/** The one shape of an error. */
export const ErrorView = Type.Object(
  {
    error: Type.String({ examples: ["Not Found"] }),
    code: Object.assign(oneOf(CODES, "session_not_found"), {
      description: CODES.map((code) => `${code}: ${ERROR_STATUS[code]}`).join(", "),
    }),
    message: Type.String(),
    detail: Type.Union([Type.String(), Type.Array(Issue)], {
      description: "The message, or for 422 what is wrong, by place.",
    }),
    request_id: Type.String({ description: "Also in the header X-Request-ID and in the server's log." }),
  },
  { $id: "Error", examples: [errorExample("session_not_found")] },
);

/** Errors of every route, and of those that need a key. */
const ANYWHERE = ["forbidden_origin", "internal"] as const satisfies readonly ErrorCode[];
const WITH_KEY = ["unauthorized", "rate_limited", "store_unavailable"] as const satisfies readonly ErrorCode[];

/** The OpenAPI 3.1 document of the given routes. */
export function openApiDocument(endpoints: readonly Endpoint[], version: string): OpenApiDocument {
  const schemas = new SchemaWriter();
  const paths: OpenApiDocument["paths"] = {};
  for (const one of endpoints) {
    const path = one.path.replaceAll(/:(\w+)/g, "{$1}").replace("*", "{path}");
    (paths[path] ??= {})[one.method.toLowerCase()] = operation(one, path, schemas);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Sandbox control plane",
      version,
      description:
        "Runs untrusted code in isolated sandboxes. Open a session, submit executions, follow their output. Unknown request " +
        "fields are ignored; null for an optional field is as if it were absent. Every response has X-Request-ID and " +
        "Server-Timing. A path that is no route's answers 404 not_found, one with another method 405 method_not_allowed.",
    },
    servers: [{ url: "/" }],
    security: [{ bearer: [] }, { apiKey: [] }],
    tags: [...new Set(endpoints.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: schemas.components,
      headers: HEADERS,
      examples: Object.fromEntries(
        CODES.map((code) => [code, { summary: `${ERROR_STATUS[code]} ${code}`, value: errorExample(code) }]),
      ),
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        apiKey: { type: "apiKey", in: "header", name: "X-API-Key" },
      },
    },
  };
}

function operation(one: Endpoint, path: string, schemas: SchemaWriter): Operation {
  const words = path.split(/[^A-Za-z0-9]+/).filter((word) => word !== "" && word !== "api" && word !== "v1");
  const parameters = [
    ...pathParameters(path),
    ...queryParameters(one.query, schemas),
    ...headerParameters(one.headers),
  ];
  const requestBody = requestBodyOf(one, schemas);
  return {
    operationId: [one.method.toLowerCase(), ...words].join("_"),
    tags: [one.tag],
    summary: one.summary,
    ...(one.description === undefined ? {} : { description: one.description }),
    ...(one.access === "public" ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(requestBody === null ? {} : { requestBody }),
    responses: responsesOf(one, schemas),
  };
}

type Parameters = NonNullable<Operation["parameters"]>;

function pathParameters(path: string): Parameters {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    ...(name === "path" ? { description: "Relative to the workspace; / may be sent as it is or as %2F." } : {}),
    schema: { type: "string" },
    ...(name in PATH_EXAMPLES ? { example: PATH_EXAMPLES[name] } : {}),
  }));
}

const PATH_EXAMPLES: Record<string, string> = {
  session_id: "sess_20260131_0a1b2c3d",
  execution_id: "exec_20260131120000_0a1b2c3d",
  template_id: "data-tools",
  name: "ci",
  path: "data/in.csv",
};

/** Headers that answers have, of every status or of those named. */
const HEADERS = {
  "X-Request-ID": {
    required: true,
    description: "The request's own, if it sent one of 1 to 128 of [A-Za-z0-9._-]; also in the server's log.",
    schema: { type: "string" },
    example: "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
  },
  "Server-Timing": {
    required: true,
    description: "What the request went through, in milliseconds.",
    schema: { type: "string" },
    example: "queue;dur=0.21, run;dur=11.90, total;dur=13.02",
  },
  "Retry-After": {
    required: true,
    description: "Seconds after which another try makes sense.",
    schema: { type: "integer", minimum: 1 },
    example: 1,
  },
};

function headersOf(status: string): Record<string, { $ref: string }> {
  const isLater = status === "429" || status === "503";
  const names = Object.keys(HEADERS).filter((name) => name !== "Retry-After" || isLater);
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}

function queryParameters(query: TObject | undefined, schemas: SchemaWriter): Parameters {
  const required = new Set(query?.required ?? []);
  return Object.entries(query?.properties ?? {}).map(([name, property]) => {
    const { description, ...schema } = schemas.write(property) as JsonSchema & { description?: string };
    return {
      name,
      in: "query",
      required: required.has(name),
      ...(description === undefined ? {} : { description }),
      schema,
    };
  });
}

/** OpenAPI has no parameter for `Accept`: the content types of the answers say it. */
function headerParameters(headers: Endpoint["headers"]): Parameters {
  return Object.entries(headers ?? {})
    .filter(([name]) => name !== "Accept")
    .map(([name, description]) => ({ name, in: "header", required: false, description, schema: { type: "string" } }));
}

function requestBodyOf(one: Endpoint, schemas: SchemaWriter): NonNullable<Operation["requestBody"]> | null {
  const bodies: Record<string, TSchema> =
    one.body === undefined ? (one.rawBody ?? {}) : { "application/json": one.body };
  const content = Object.entries(bodies).map(([type, schema]) => [
    type,
    { schema: schemas.write(schema, true), example: exampleOf(schema) },
  ]);
  // No body at all is an empty file.
  const required = !("application/octet-stream" in bodies);
  return content.length === 0 ? null : { required, content: Object.fromEntries(content) };
}

function responsesOf(one: Endpoint, schemas: SchemaWriter): Operation["responses"] {
  const written: Operation["responses"] = {};
  for (const [status, { description, content }] of Object.entries(one.answers)) {
    const bodies = Object.entries(content ?? {}).map(([type, { schema, example }]) => [
      type,
      media(schema, example ?? exampleOf(schema), schemas),
    ]);
    written[status] = { description, ...(bodies.length === 0 ? {} : { content: Object.fromEntries(bodies) }) };
  }
  const codes = new Set<ErrorCode>([...one.errors, ...ANYWHERE, ...(one.access === "public" ? [] : WITH_KEY)]);
  if (codes.has("executor_unavailable")) codes.add("draining");
  if (one.query !== undefined) codes.add("validation_failed");
  for (const [status, grouped] of Map.groupBy(codes, (code) => ERROR_STATUS[code]))
    written[status] = withErrors(written[status], grouped, schemas);
  for (const [status, answer] of Object.entries(written)) answer.headers = headersOf(status);
  return written;
}

type Response = Operation["responses"][string];

/** An answer of error codes, with an example of each; a status may have an answer of its own too, as 503 has. */
function withErrors(answer: Response | undefined, codes: ErrorCode[], schemas: SchemaWriter): Response {
  const schema = schemas.write(ErrorView);
  const examples = Object.fromEntries(codes.map((code) => [code, { $ref: `#/components/examples/${code}` }]));
  const own = answer?.content?.["application/json"];
  if (answer === undefined || own === undefined)
    return { description: codes.join(", "), content: { "application/json": { schema, examples } } };
  return {
    description: `${answer.description} Or ${codes.join(", ")}`,
    content: {
      "application/json": {
        schema: { anyOf: [own.schema, schema] },
        examples: { answer: { value: own.example }, ...examples },
      },
    },
  };
}

function media(schema: TSchema, example: unknown, schemas: SchemaWriter): Media {
  return { schema: schemas.write(schema), example };
}
