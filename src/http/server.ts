import { Elysia } from "elysia";
import { AppError } from "../errors.ts";
import type { Config } from "../config.ts";
import type { Executions } from "../executions/executions.ts";
import type { Keys } from "../keys/keys.ts";
import type { Log } from "../log.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { Templates } from "../templates/templates.ts";
import type { Workspaces } from "../workspaces/workspaces.ts";
import { Access } from "./auth.ts";
import { documentEndpoints } from "./documents.ts";
import type { Endpoint } from "./endpoint.ts";
import { eventEndpoints, EventStreams } from "./events.ts";
import { executionEndpoints } from "./executions.ts";
import { fileEndpoints } from "./files.ts";
import { healthEndpoints, type Vitals } from "./health.ts";
import { KeyWatch } from "./key-watch.ts";
import { keyEndpoints } from "./keys.ts";
import { metricsEndpoints, type HttpMetrics } from "./metrics.ts";
import { RequestRate } from "./request-rate.ts";
import { respond, type Surroundings } from "./respond.ts";
import { sessionEndpoints } from "./sessions.ts";
import { templateEndpoints } from "./templates.ts";
import { preflight, unknownRoute } from "./unrouted.ts";

/** Seconds without traffic after which a connection is closed, unless a call on it waits or streams. */
const IDLE_S = 120;
const HEARTBEAT_MS = 12_000;
const KEY_RECHECK_MS = 5000;
const ANSWERED_POLL_MS = 10;

export type HttpConfig = Pick<
  Config,
  | "host"
  | "authMode"
  | "allowedHosts"
  | "corsOrigins"
  | "requestsPerMinute"
  | "defaultTimeoutS"
  | "maxTimeoutS"
  | "maxBodyBytes"
  | "bodyPatienceMs"
  | "maxFileBytes"
>;

export type ServerDeps = {
  sessions: Sessions;
  executions: Executions;
  workspaces: Workspaces;
  templates: Templates;
  keys: Keys;
  vitals: Vitals;
  config: HttpConfig;
  log: Log;
  metrics?: HttpMetrics;
  /** Milliseconds between the heartbeats of a quiet event stream. */
  heartbeatMs?: number;
  /** Milliseconds between two looks whether the callers of open streams still have their keys. */
  keyRecheckMs?: number;
};

export type HttpServer = {
  /** Binds and serves. Port 0 takes a free one. Throws what the system says, such as EADDRINUSE. */
  listen(host: string, port: number): { url: string; port: number };
  /** Serves on, and has each connection end with its next answer, so that its client opens another one elsewhere. */
  drain(): void;
  /**
   * Takes no more connections, ends the streams at once, and after `waitMs` milliseconds whoever still waits for something
   * to happen. Resolves when every answer is out, `graceMs` milliseconds after that at the latest.
   */
  stop(graceMs: number, waitMs?: number): Promise<void>;
};

/** Every route of the API. */
export function endpointsOf(deps: ServerDeps): Endpoint[] {
  const { config, log } = deps;
  const streams = new EventStreams(deps.executions, log, deps.heartbeatMs ?? HEARTBEAT_MS);
  const endpoints = [
    ...sessionEndpoints(deps.sessions, config.maxTimeoutS),
    ...executionEndpoints(deps.executions, streams),
    ...eventEndpoints(deps.executions, streams),
    ...fileEndpoints(deps.workspaces, deps.sessions, config.maxFileBytes),
    ...templateEndpoints(deps.templates, config.defaultTimeoutS),
    ...keyEndpoints(deps.keys),
    ...healthEndpoints(deps.vitals),
    ...(deps.metrics === undefined ? [] : metricsEndpoints(deps.metrics)),
  ];
  return [...endpoints, ...documentEndpoints(endpoints, deps.vitals.version)];
}

/** The HTTP API over the domain. */
export function createServer(deps: ServerDeps): HttpServer {
  const [streams, waits] = [new AbortController(), new AbortController()];
  const { config } = deps;
  let isDraining = false;
  let server: Bun.Server<undefined> | null = null;
  const access = new Access(config, deps.keys);
  const around: Surroundings = {
    access,
    keyWatch: new KeyWatch(access, deps.keyRecheckMs ?? KEY_RECHECK_MS),
    rate: config.requestsPerMinute === null ? null : new RequestRate(config.requestsPerMinute),
    log: deps.log,
    metrics: deps.metrics ?? null,
    maxBodyBytes: config.maxBodyBytes,
    bodyPatienceMs: config.bodyPatienceMs,
    corsOrigins: config.corsOrigins,
    stop: { streams: streams.signal, waits: waits.signal },
    isDraining: () => isDraining,
    idleTimeout: (request, seconds) => server?.timeout(request, seconds),
    idleS: IDLE_S,
  };
  const { main, head } = routersOf(endpointsOf(deps), around);
  return {
    listen(host, port) {
      if (server !== null) throw new AppError("internal", "the server listens already");
      server = Bun.serve({
        hostname: host,
        port,
        reusePort: false,
        idleTimeout: IDLE_S,
        maxRequestBodySize: Number.MAX_SAFE_INTEGER,
        development: false,
        fetch: (request) => (request.method === "HEAD" ? head : main).fetch(request),
      });
      const bound = server.port ?? port;
      return { url: `http://${host.includes(":") ? `[${host}]` : host}:${bound}`, port: bound };
    },
    drain() {
      isDraining = true;
    },
    async stop(graceMs, waitMs = 0) {
      isDraining = true;
      streams.abort();
      if (server === null) return;
      // Not awaited: it is done only when every connection is closed, also those on which nobody ever asked anything.
      void server.stop(false);
      await answered(server, waitMs);
      waits.abort();
      await answered(server, graceMs);
      await server.stop(true);
    },
  };
}

/** Resolves when every request has its whole answer, or after `ms` milliseconds. Bun tells by no event. */
async function answered(server: Bun.Server<undefined>, ms: number): Promise<void> {
  const end = performance.now() + ms;
  while (server.pendingRequests > 0 && performance.now() < end) await Bun.sleep(ANSWERED_POLL_MS);
}

/**
 * Elysia routes; parsing, checking and answering are the endpoint's own. HEAD is answered wherever GET is, by a router of
 * its own: one that had GET too would run that and read its whole body for the length.
 */
function routersOf(endpoints: Endpoint[], around: Surroundings): { main: Elysia; head: Elysia } {
  const [main, head] = [newRouter(), newRouter()];
  const add = (router: Elysia, method: string, endpoint: Endpoint): void => {
    const handle = ({ request, params }: { request: Request; params: Record<string, string> }): Promise<Response> =>
      respond(around, endpoint, request, params);
    router.route(method, endpoint.path, handle, { parse: "none" });
  };
  for (const endpoint of endpoints) {
    const hasOwnHead = endpoints.some((other) => other.path === endpoint.path && other.method === "HEAD");
    if (endpoint.method !== "HEAD") add(main, endpoint.method, endpoint);
    if (endpoint.method === "HEAD" || (endpoint.method === "GET" && !hasOwnHead)) add(head, "HEAD", endpoint);
  }
  add(main, "OPTIONS", preflight(endpoints));
  for (const router of [main, head]) {
    add(router, "ALL", unknownRoute(endpoints));
    router.compile();
  }
  return { main, head };
}

function newRouter(): Elysia {
  return new Elysia({ strictPath: true, handler: { standardHostname: false } });
}
