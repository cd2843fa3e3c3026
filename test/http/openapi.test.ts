import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Value } from "@sinclair/typebox/value";
import { ERROR_STATUS } from "../../src/errors.ts";
import { EndedView, ExecutionView } from "../../src/http/execution-view.ts";
import type { OpenApiDocument } from "../../src/http/openapi.ts";
import { endpointsOf } from "../../src/http/server.ts";
import { SessionView } from "../../src/http/session-view.ts";
import { startApi, type Api } from "./fixture.ts";

let api: Api;
let document: OpenApiDocument;
beforeAll(async () => {
  api = await startApi();
  document = (await (await fetch(`${api.url}/openapi.json`)).json()) as OpenApiDocument;
});
afterAll(() => api.stop());

describe("the document", () => {
  test("has every route, each under a name of its own", () => {
    const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
    );
    const routes = endpointsOf(api.deps).map(
      (one) => `${one.method} ${one.path.replaceAll(/:(\w+)/g, "{$1}").replace("*", "{path}")}`,
    );
    expect(operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`).toSorted()).toEqual(
      routes.toSorted(),
    );
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { path, operation } of operations) {
      const named = (operation.parameters ?? []).filter((one) => one.in === "path").map((one) => one.name);
      expect(named).toEqual([...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name));
      expect(Object.keys(operation.responses).length).toBeGreaterThan(0);
    }
  });

  test("refers to nothing that it does not have", () => {
    const text = JSON.stringify(document);
    const { schemas } = document["components"] as { schemas: object };
    const names = [...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name = ""]) => name);
    expect(Object.keys(schemas).toSorted()).toEqual([...new Set(names)].toSorted());
    expect(text).not.toContain('"$id"');
  });

  test("lists every error code with its status, and event types with examples", () => {
    const { schemas } = document["components"] as {
      schemas: Record<string, { properties: Record<string, { enum: string[] }> }>;
    };
    expect(schemas["Error"]?.properties["code"]?.enum).toEqual(Object.keys(ERROR_STATUS));
    const stream =
      document.paths["/api/v1/executions/{execution_id}/events"]?.["get"]?.responses["200"]?.content?.[
        "text/event-stream"
      ];
    for (const type of ["status", "stdout", "stderr", "result", "end"])
      expect(stream?.example).toContain(`event: ${type}\n`);
    expect(Object.keys(document.paths["/api/v1/sessions"]?.["post"]?.responses ?? {})).toEqual(
      expect.arrayContaining(["201", "400", "401", "409", "422"]),
    );
  });

  test("names every code that a route answers in the tests of errors", async () => {
    const responses =
      document.paths["/api/v1/executions/sessions/{session_id}/execute-sync"]?.["post"]?.responses ?? {};
    for (const status of ["200", "400", "404", "408", "409", "413", "415", "422", "429", "500", "503"])
      expect(Object.keys(responses)).toContain(status);
  });
});

test("answers are what the document says", async () => {
  const made = await api.client.post("/sessions?wait=5", { template_id: "python-basic" });
  expect([...Value.Errors(withoutFormats(SessionView), made.body)]).toEqual([]);
  const execution = await api.client.run(made.body["id"], 'out "x"');
  expect([...Value.Errors(withoutFormats(ExecutionView), execution)]).toEqual([]);
  const end = (await api.client.allEvents(execution["id"])).at(-1);
  expect([...Value.Errors(withoutFormats(EndedView), end?.data)]).toEqual([]);
});

/** TypeBox refuses formats that nobody registered; documents only name them. */
function withoutFormats<T>(schema: T): T {
  return structuredCloneWithSymbols(schema, (key) => key !== "format") as T;
}

function structuredCloneWithSymbols(value: unknown, keep: (key: string | symbol) => boolean): unknown {
  if (Array.isArray(value)) return value.map((item) => structuredCloneWithSymbols(item, keep));
  if (typeof value !== "object" || value === null) return value;
  const entries = Reflect.ownKeys(value)
    .filter(keep)
    .map((key) => [key, structuredCloneWithSymbols(Reflect.get(value, key), keep)] as const);
  return Object.fromEntries(entries);
}

test("the page shows it and needs nothing else", async () => {
  const response = await fetch(`${api.url}/docs`);
  expect(response.headers.get("Content-Type")).toBe("text/html; charset=utf-8");
  expect(response.headers.get("Content-Security-Policy")).toContain("default-src 'none'");
  const page = await response.text();
  for (const path of Object.keys(document.paths)) expect(page).toContain(`<code>${path}</code>`);
  for (const [code, status] of Object.entries(ERROR_STATUS)) expect(page).toContain(`<code>${status} ${code}</code>`);
  for (const type of ["status", "stdout", "stderr", "result", "end"]) expect(page).toContain(`event: ${type}\n`);
  expect(page).not.toMatch(/<script|<link|src=|https?:\/\/(?!.*&quot;)/);
});

test("health routes", async () => {
  const get = async (path: string) => (await fetch(api.url + path)).json() as Promise<Record<string, unknown>>;
  expect(await get("/api/v1/health")).toEqual({ status: "healthy", version: "0.0.0", uptime: 1.5 });
  expect(await get("/healthz")).toEqual({ status: "alive" });
  expect(await get("/readyz")).toEqual({ status: "ready" });
  expect(await get("/")).toMatchObject({ version: "0.0.0", docs: "/docs" });
  expect(await get("/api/v1/health/detailed")).toMatchObject({
    status: "healthy",
    checks: [{ name: "database", ok: true }],
  });
  expect((await api.client.post("/health/sync")).body).toMatchObject({ status: "completed" });
});

test("health routes of a service that is not well", async () => {
  const ill = await startApi({
    change: ({ vitals }) => ({
      vitals: {
        ...vitals,
        unready: () => "draining",
        checks: () => Promise.resolve([{ name: "executor", ok: false, found: "no answer" }]),
      },
    }),
  });
  const ready = await fetch(`${ill.url}/readyz`);
  expect([ready.status, await ready.json()]).toEqual([503, { status: "unready", reason: "draining" }]);
  const detailed = await ill.client.get("/health/detailed");
  expect(detailed).toMatchObject({ status: 503, body: { status: "unhealthy" } });
  expect([ready, detailed].map(({ headers }) => headers.get("Retry-After"))).toEqual(["1", "1"]);
  expect((await fetch(`${ill.url}/healthz`)).status).toBe(200);
  await ill.stop();
});

test("metrics count requests by route and the clients of streams", async () => {
  const seen: string[] = [];
  let clients = 0;
  const counted = await startApi({
    change: () => ({
      metrics: {
        request: (method, route, status) => void seen.push(`${method} ${route} ${status}`),
        streamClients: (change) => void (clients += change),
        contentType: "text/plain; version=0.0.4",
        text: () => Promise.resolve(`sandbox_stream_clients ${clients}\n`),
      },
    }),
  });
  const session = await counted.client.session();
  const id = await counted.client.submit(session, "hang");
  const leave = new AbortController();
  const stream = counted.client.events(id, { signal: leave.signal });
  await stream.next();
  const metrics = await fetch(`${counted.url}/metrics`);
  expect([metrics.headers.get("Content-Type"), await metrics.text()]).toEqual([
    "text/plain; version=0.0.4",
    "sandbox_stream_clients 1\n",
  ]);
  await counted.client.post(`/executions/${id}/cancel`);
  while (!(await stream.next()).done);
  await counted.client.get("/nope/x");
  expect(clients).toBe(0);
  expect(seen).toEqual([
    "POST /api/v1/sessions 201",
    "POST /api/v1/sessions/:session_id/executions 201",
    "GET /metrics 200",
    "POST /api/v1/executions/:execution_id/cancel 200",
    "GET /api/v1/executions/:execution_id/events 200",
    "GET /* 404",
  ]);
  await counted.stop();
});
