import { timingSafeEqual } from "node:crypto";
import { AppError } from "../errors.ts";
import { memberOf } from "../json-text.ts";
import type { Log } from "../log.ts";
import { requestIdOf, withRequestId } from "../request-scope.ts";
import { fileRoute } from "./file-routes.ts";
import { checkId } from "./ids.ts";
import { followJournal } from "./journal-reader.ts";
import { layerRoute } from "./layers/layer-routes.ts";
import type { Layers } from "./layers/layers.ts";
import {
  LANGUAGES,
  type Check,
  type ExecutionRequest,
  type ExecutorHealth,
  type JournalName,
  type PoolSpec,
  type SandboxSpec,
  REFUSAL_CODE,
} from "./protocol.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { TreeRoutes } from "./tree-routes.ts";
import { TUNNEL_USES, type TunnelHub, type TunnelSocket } from "./tunnel/hub.ts";

export type Listen = { unix: string } | { hostname: string; port: number };

export type ServerOptions = {
  sandboxes: Sandboxes;
  layers: Layers;
  /** Where connections leave that sandboxes make; null: they don't leave through the control plane. */
  tunnels: TunnelHub | null;
  health(): Promise<ExecutorHealth>;
  isolation(): Promise<Check[]>;
  /** The oldest journals that should go; none while there is room. */
  surplusJournals(): Promise<JournalName[]>;
  /** Called after a request for the end of this process was answered; its sandboxes have ended then. */
  shutdown(): void;
  /** Required on every request when given; always for TCP. */
  token: string | null;
  dataDir: string;
  log: Log;
};

/** Longer than a warm handler takes, shorter than anybody notices: its whole journal then goes in one piece. */
const PATIENCE_MS = 5;
/** Bodies of JSON requests: the API's own limit, with room for what escaping adds. */
const MAX_JSON_BYTES = 128 * 1024 * 1024;

/** The HTTP face of an executor (protocol.ts). */
export class ExecutorServer {
  readonly #o: ServerOptions;
  readonly #tokenHash: Uint8Array | null;
  readonly #trees: TreeRoutes;
  #server: Bun.Server<TunnelSocket> | null = null;
  /** `performance.now()` of the last request. */
  lastRequestMs = performance.now();

  constructor(options: ServerOptions) {
    this.#o = options;
    this.#trees = new TreeRoutes(options.sandboxes);
    this.#tokenHash = options.token === null ? null : hash(`Bearer ${options.token}`);
  }

  /** Binds and serves. Throws what the bind threw. Returns the bound port, 0 for a socket. */
  listen(where: Listen): number {
    const fetch = (request: Request): Promise<Response | undefined> => {
      const requestId = requestIdOf(request.headers);
      return requestId === null ? this.#answer(request) : withRequestId(requestId, () => this.#answer(request));
    };
    const websocket = this.#o.tunnels?.websocket;
    const common = {
      fetch,
      idleTimeout: 0,
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      ...(websocket && { websocket }),
    };
    const options = "unix" in where ? { unix: where.unix } : { ...where, reusePort: false };
    this.#server = Bun.serve({ ...common, ...options } as Bun.Serve.Options<TunnelSocket, never>);
    return this.#server.port ?? 0;
  }

  /** Requests that are being answered, streams among them. */
  get pending(): number {
    return this.#server?.pendingRequests ?? 0;
  }

  /** Closes the listener and every connection. */
  async close(): Promise<void> {
    await this.#server?.stop(true);
  }

  /** Nothing for a request that has become a tunnel. */
  async #answer(request: Request): Promise<Response | undefined> {
    this.lastRequestMs = performance.now();
    try {
      if (!this.#isAllowed(request)) throw new AppError("unauthorized", "the executor's token is missing or wrong");
      return await this.#route(request);
    } catch (error) {
      return this.#refusal(request, error);
    }
  }

  #isAllowed(request: Request): boolean {
    if (this.#tokenHash === null) return true;
    return timingSafeEqual(this.#tokenHash, hash(request.headers.get("authorization") ?? ""));
  }

  #refusal(request: Request, error: unknown): Response {
    if (!(error instanceof AppError)) {
      this.#o.log.error("request.failed", { method: request.method, path: new URL(request.url).pathname, error });
      return Response.json({ code: "internal", message: "the executor failed" }, { status: 500 });
    }
    if (error.status >= 500) this.#o.log.warn("request.refused", { code: error.code, error });
    const retryAfter = error.retryAfterS === undefined ? {} : { "Retry-After": String(error.retryAfterS) };
    const headers = { [REFUSAL_CODE]: error.code, ...retryAfter };
    return Response.json({ code: error.code, message: error.message }, { status: error.status, headers });
  }

  async #route(request: Request): Promise<Response | undefined> {
    const url = new URL(request.url);
    const [, collection = "", rawId, part, ...rest] = url.pathname.split("/");
    const call = `${request.method} /${collection}`;
    if (collection === "layers") return layerRoute(request, rawId, this.#o.layers);
    if (rawId === undefined) {
      if (call === "GET /health") return Response.json(await this.#o.health());
      if (call === "GET /isolation") return Response.json(await this.#o.isolation());
      if (call === "GET /sandboxes") return Response.json(this.#o.sandboxes.list());
      if (call === "GET /journals") return Response.json(await this.#o.surplusJournals());
      if (call === "PUT /pools") return this.#setPools(await json<PoolSpec[]>(request));
      if (call === "POST /shutdown") return this.#shutdown();
      if (call === "GET /tunnel") return this.#tunnel(request, url);
      return unknownRoute();
    }
    const id = checkId(rawId);
    if (collection === "executions") return this.#execution(request, id, part, url);
    if (collection !== "sandboxes") return unknownRoute();
    if (part === undefined) return this.#sandbox(request, id, url);
    if (part === "audit" && request.method === "GET") return Response.json(this.#o.sandboxes.audit.read(id));
    if (part === "layers" && request.method === "PUT") return this.#setLayers(id, await json<string[]>(request));
    if (part === "tree") return this.#trees.answer(request, url, id);
    if (part !== "files") return unknownRoute();
    return fileRoute(request, url, rest.join("/"), id, this.#o);
  }

  #tunnel(request: Request, url: URL): undefined {
    const use = TUNNEL_USES.find((one) => one === url.searchParams.get("for"));
    if (this.#o.tunnels === null || use === undefined) return unknownRoute();
    this.#o.tunnels.checkRoom(use);
    if (this.#server?.upgrade(request, { data: { use, mux: null } }) !== true)
      throw new AppError("bad_request", "a tunnel is a WebSocket");
  }

  #setLayers(id: string, names: string[]): Response {
    this.#o.sandboxes.setLayers(id, names.map(checkId));
    return noContent();
  }

  async #setPools(pools: PoolSpec[]): Promise<Response> {
    await this.#o.sandboxes.pools.set(pools);
    return noContent();
  }

  async #shutdown(): Promise<Response> {
    await this.#o.sandboxes.close();
    setTimeout(() => this.#o.shutdown(), 0);
    return noContent();
  }

  async #sandbox(request: Request, id: string, url: URL): Promise<Response> {
    const { sandboxes } = this.#o;
    if (request.method === "PUT") return Response.json(await sandboxes.create(id, await json<SandboxSpec>(request)));
    if (request.method !== "DELETE") return unknownRoute();
    await sandboxes.delete(id, { deleteWorkspace: url.searchParams.get("workspace") === "delete" });
    return noContent();
  }

  async #execution(request: Request, id: string, part: string | undefined, url: URL): Promise<Response> {
    const { sandboxes } = this.#o;
    switch (`${request.method} ${part ?? ""}`) {
      case "PUT ":
        return stream(followJournal(sandboxes.execute(id, await executionRequest(request)), 0, PATIENCE_MS));
      case "GET journal":
        return stream(followJournal(sandboxes.journal(id), Number(url.searchParams.get("after") ?? 0)));
      case "GET output":
        return Response.json(await sandboxes.output(id));
      case "POST cancel":
        await sandboxes.cancel(id);
        return noContent();
      case "DELETE ":
        await sandboxes.forget(id, checkId(url.searchParams.get("sandbox") ?? ""));
        return noContent();
      default:
        return unknownRoute();
    }
  }
}

async function json<T>(request: Request): Promise<T> {
  return (await parsed(request)).value as T;
}

async function parsed(request: Request): Promise<{ value: unknown; text: string }> {
  if (Number(request.headers.get("content-length") ?? 0) > MAX_JSON_BYTES)
    throw new AppError("body_too_large", `a request has at most ${MAX_JSON_BYTES} bytes`);
  try {
    const text = await request.text();
    return { value: JSON.parse(text), text };
  } catch (error) {
    throw new AppError("malformed_json", "the body is not JSON", { cause: error });
  }
}

/** The peer is this program too, but perhaps of another version. */
async function executionRequest(from: Request): Promise<ExecutionRequest> {
  const { value, text } = await parsed(from);
  const request = { ...(value as ExecutionRequest), event: memberOf(text, "event") };
  if (!LANGUAGES.includes(request.language) || typeof request.code !== "string" || !(request.timeoutMs > 0))
    throw new AppError("bad_request", "not an execution request");
  checkId(request.sandboxId);
  return request;
}

function stream(body: ReadableStream<Uint8Array>): Response {
  return new Response(body, { headers: { "Content-Type": "application/octet-stream" } });
}

function noContent(): Response {
  return new Response(null, { status: 204 });
}

function unknownRoute(): never {
  throw new AppError("not_found", "the executor has no such route");
}

function hash(text: string): Uint8Array {
  return new Bun.CryptoHasher("sha256").update(text).digest();
}
