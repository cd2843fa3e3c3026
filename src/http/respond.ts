import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Access } from "./auth.ts";
import type { Endpoint, Reply } from "./endpoint.ts";
import { errorReply } from "./errors.ts";
import { LiveExchange, type ExchangeTerms } from "./exchange.ts";
import type { KeyWatch } from "./key-watch.ts";
import type { HttpMetrics } from "./metrics.ts";
import { withRequestId } from "../request-scope.ts";
import { isConfiguredOrigin } from "./origin.ts";
import type { RequestRate } from "./request-rate.ts";

export type Surroundings = ExchangeTerms & {
  access: Access;
  keyWatch: KeyWatch;
  rate: RequestRate | null;
  log: Log;
  metrics: HttpMetrics | null;
  corsOrigins: readonly string[];
  /** Whether connections are to end with their next answer. */
  isDraining: () => boolean;
  /** What `idleTimeout` is set to again after a call that was held open. */
  idleS: number;
};

/** Answers one request at an endpoint: who calls, what it answers, the headers of every response, one line in the log. */
export function respond(
  around: Surroundings,
  endpoint: Endpoint,
  request: Request,
  params: Record<string, string>,
): Promise<Response> {
  const exchange = new LiveExchange(request, around);
  return withRequestId(exchange.requestId, () => answer(around, endpoint, exchange, params));
}

async function answer(
  around: Surroundings,
  endpoint: Endpoint,
  exchange: LiveExchange,
  params: Record<string, string>,
): Promise<Response> {
  const { request } = exchange;
  let reply: Reply;
  try {
    exchange.tenant = await around.access.tenantOf(request.headers, endpoint.access ?? "key");
    exchange.watch = () => around.keyWatch.add(request.headers, endpoint.access ?? "key");
    if (endpoint.access !== "public") around.rate?.count(exchange.tenant, exchange.startedAt);
    checkParams(params);
    reply = await endpoint.run(exchange, params);
  } catch (error) {
    reply = errorReply(error, exchange.requestId, around.log);
  }
  if (request.method === "HEAD") await dropStream(reply);
  let response: Response;
  try {
    response = toResponse(around, exchange, reply);
  } catch (error) {
    // A header that can't be sent, say: that is an error like any other.
    reply = errorReply(error, exchange.requestId, around.log);
    response = toResponse(around, exchange, reply);
  }
  if (reply.finished === undefined) finish(around, endpoint, exchange, reply);
  else void follow(around, endpoint, exchange, reply, reply.finished);
  return response;
}

/** A HEAD of a stream has its headers alone; Bun would wait for the first bytes. */
async function dropStream(reply: Reply): Promise<void> {
  if (reply.stream instanceof ReadableStream) await reply.stream.cancel();
  delete reply.stream;
}

/** The router gives null for a parameter whose percent-encoding is broken. */
function checkParams(params: Record<string, string | null>): void {
  for (const name in params)
    if (params[name] === null) throw new AppError("bad_request", "the path is not valid percent-encoded UTF-8");
}

function toResponse(around: Surroundings, exchange: LiveExchange, reply: Reply): Response {
  const headers: Record<string, string> = {
    "X-Request-ID": exchange.requestId,
    "Server-Timing": serverTiming(reply.timing, performance.now() - exchange.startedAt),
    ...(around.isDraining() ? { Connection: "close" } : {}),
    ...(around.corsOrigins.length === 0 ? {} : corsHeaders(exchange.request.headers.get("origin"), around.corsOrigins)),
    ...reply.headers,
  };
  let body: string | ReadableStream<Uint8Array> | Blob | null = reply.stream ?? reply.text ?? null;
  if (reply.json !== undefined || reply.jsonText !== undefined) {
    headers["Content-Type"] = "application/json";
    body = reply.jsonText ?? JSON.stringify(reply.json);
  }
  return new Response(body, { status: reply.status, headers });
}

/** Phases in milliseconds as a `Server-Timing` header. */
function serverTiming(phases: Record<string, number> | undefined, totalMs: number): string {
  let text = "";
  for (const name in phases) text += `${name.replaceAll(/[^\w-]/g, "_")};dur=${phases[name]?.toFixed(2)}, `;
  return `${text}total;dur=${totalMs.toFixed(2)}`;
}

function corsHeaders(origin: string | null, corsOrigins: readonly string[]): Record<string, string> {
  if (origin === null || !isConfiguredOrigin(origin, corsOrigins)) return { Vary: "Origin" };
  return {
    Vary: "Origin",
    "Access-Control-Allow-Origin": origin,
    "Access-Control-Expose-Headers":
      "X-Request-ID, Server-Timing, Location, Retry-After, ETag, Content-Disposition, Content-Range",
  };
}

async function follow(
  around: Surroundings,
  endpoint: Endpoint,
  exchange: LiveExchange,
  reply: Reply,
  finished: Promise<void>,
): Promise<void> {
  if (reply.isEventStream === true) around.metrics?.streamClients(1);
  await finished;
  if (reply.isEventStream === true) around.metrics?.streamClients(-1);
  finish(around, endpoint, exchange, reply);
}

function finish(around: Surroundings, endpoint: Endpoint, exchange: LiveExchange, reply: Reply): void {
  exchange.release(around.idleS);
  const ms = performance.now() - exchange.startedAt;
  const { method } = exchange.request;
  around.metrics?.request(method, endpoint.path, reply.status, ms / 1000);
  around.log.info("http.request", {
    method,
    path: exchange.path,
    status: reply.status,
    ...(reply.code === undefined ? {} : { code: reply.code }),
    ms: Math.round(ms * 100) / 100,
    ...(exchange.tenant === "" ? {} : { tenant: exchange.tenant }),
  });
}
