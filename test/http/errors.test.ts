import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import type { Answer } from "../e2e/client.ts";
import { startApi, type Api } from "./fixture.ts";

let api: Api;
let session: string;
beforeAll(async () => {
  api = await startApi();
  session = await api.client.session();
});
afterAll(() => api.stop());

const JSON_TYPE = { "Content-Type": "application/json" };
const run = () => `/sessions/${session}/executions`;

async function send(
  method: string,
  path: string,
  body: string | ReadableStream<Uint8Array> | undefined,
  headers: Record<string, string>,
): Promise<Answer> {
  const response = await api.client.raw(method, path, body, headers);
  return { status: response.status, headers: response.headers, body: (await response.json()) as Answer["body"] };
}

function chunked(bytes: number): ReadableStream<Uint8Array> {
  let left = bytes;
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      if (left <= 0) return controller.close();
      controller.enqueue(new Uint8Array(Math.min(left, 65_536)).fill(0x20));
      left -= 65_536;
    },
  });
}

describe("every error has one shape", () => {
  const cases: [string, () => Promise<Answer>, number, string][] = [
    ["unknown route", () => api.client.get("/nope"), 404, "not_found"],
    ["unknown session", () => api.client.get("/sessions/nope"), 404, "session_not_found"],
    ["unknown execution", () => api.client.get("/executions/nope"), 404, "execution_not_found"],
    ["unknown template", () => api.client.get("/templates/nope"), 404, "template_not_found"],
    ["unknown key", () => api.client.call("DELETE", "/keys/nope"), 404, "key_not_found"],
    ["wrong method", () => api.client.call("PUT", "/sessions"), 405, "method_not_allowed"],
    ["malformed JSON", () => send("POST", run(), "{bad", JSON_TYPE), 400, "malformed_json"],
    ["JSON nested without end", () => send("POST", run(), "[".repeat(500_000), JSON_TYPE), 400, "malformed_json"],
    [
      "a form for JSON",
      () => send("POST", run(), "a=b", { "Content-Type": "application/x-www-form-urlencoded" }),
      415,
      "unsupported_media_type",
    ],
    [
      "a text for JSON",
      () => send("POST", run(), "{}", { "Content-Type": "text/plain" }),
      415,
      "unsupported_media_type",
    ],
    [
      "a compressed body",
      () => send("POST", run(), "{}", { ...JSON_TYPE, "Content-Encoding": "gzip" }),
      415,
      "unsupported_media_type",
    ],
    [
      "JSON for a form",
      () => send("POST", `/sessions/${session}/files/upload`, "{}", JSON_TYPE),
      415,
      "unsupported_media_type",
    ],
    ["a body above the limit", () => send("POST", run(), " ".repeat(5_000_000), JSON_TYPE), 413, "body_too_large"],
    ["one of unknown length", () => send("POST", run(), chunked(5_000_000), JSON_TYPE), 413, "body_too_large"],
    ["no body", () => send("POST", run(), undefined, JSON_TYPE), 422, "validation_failed"],
    ["a list for an object", () => send("POST", run(), "[]", JSON_TYPE), 422, "validation_failed"],
    ["a path that is not UTF-8", () => api.client.get("/executions/%ff"), 400, "bad_request"],
    [
      "unknown template of a session",
      () => api.client.post("/sessions", { template_id: "nope" }),
      400,
      "template_unknown",
    ],
    [
      "dependencies",
      () => api.client.post(`/sessions/${session}/dependencies/install`, { dependencies: [{ name: "missing" }] }),
      400,
      "dependency_failed",
    ],
  ];
  for (const [name, call, status, code] of cases)
    test(`${name}: ${status} ${code}`, async () => {
      const answer = await call();
      expect(answer.status).toBe(status);
      const { body } = answer;
      expect(Object.keys(body)).toEqual(["error", "code", "message", "detail", "request_id"]);
      expect(body["code"]).toBe(code);
      expect(body["request_id"]).toBe(answer.headers.get("X-Request-ID"));
      if (status !== 422) expect(body["detail"]).toBe(body["message"]);
      expect(answer.headers.get("Content-Type")).toBe("application/json");
    });

  test("405 says what is allowed", async () => {
    const { headers } = await api.client.call("PATCH", "/templates/x");
    expect(headers.get("Allow")?.split(", ").toSorted()).toEqual(["DELETE", "GET", "HEAD", "OPTIONS", "PUT"]);
  });

  test("404 names the route that was meant", async () => {
    const message = async (path: string) => {
      const response = await fetch(`${api.url}${path}`);
      return [response.status, ((await response.json()) as { message: string }).message];
    };
    for (const [path, meant] of [
      ["/api/v1/sessions/", "/api/v1/sessions"],
      ["//api//v1/templates", "/api/v1/templates"],
      ["/sessions", "/api/v1/sessions"],
      ["/executions/x/events/", "/api/v1/executions/x/events"],
      ["/api/v1/openapi.json", "/openapi.json"],
    ] as const)
      expect(await message(path)).toEqual([404, `there is no such route; ${meant} is one; see /docs`]);
    for (const path of ["/api/v1", "/api/v1/", "/nope", "/x".repeat(2000)])
      expect(await message(path)).toEqual([404, "there is no such route; see /docs"]);
  });

  test("400 says what of the JSON is wrong, and which template there is not", async () => {
    const json = await send("POST", run(), `{'code': 1}`, JSON_TYPE);
    expect(json.body["message"]).toBe("the body is not valid JSON: Single quotes (') are not allowed in JSON");
    const long = await send("POST", run(), `{"code": ${"x".repeat(5000)}}`, JSON_TYPE);
    expect(long.body["message"].length).toBeLessThan(200);
    const template = await api.client.post("/sessions", { template_id: "python-basic " });
    expect(template.body["message"]).toBe('there is no template "python-basic "; GET /api/v1/templates lists them');
  });

  test("a long input is not repeated", async () => {
    const answer = await api.client.post("/sessions", { template_id: "x".repeat(1_000_000) });
    expect(answer.status).toBe(400);
    expect(answer.body["message"].length).toBeLessThan(9000);
  });
});

describe("422 says where", () => {
  const body = { language: "python", code: "pass" };
  const issues: [string, Record<string, unknown>, { type: string; loc: (string | number)[] }][] = [
    ["missing", { language: "python" }, { type: "missing", loc: ["body", "code"] }],
    ["below", { ...body, timeout: 0 }, { type: "greater_than_equal", loc: ["body", "timeout"] }],
    ["above", { ...body, timeout: 3601 }, { type: "less_than_equal", loc: ["body", "timeout"] }],
    ["a number as text", { ...body, timeout: "5" }, { type: "int_type", loc: ["body", "timeout"] }],
    ["half a second", { ...body, timeout: 1.5 }, { type: "int_type", loc: ["body", "timeout"] }],
    ["empty", { ...body, code: "" }, { type: "string_too_short", loc: ["body", "code"] }],
    ["too long", { ...body, code: "x".repeat(1_048_577) }, { type: "string_too_long", loc: ["body", "code"] }],
    ["no such word", { ...body, language: "cobol" }, { type: "enum", loc: ["body", "language"] }],
    ["a list as event", { ...body, event: [] }, { type: "dict_type", loc: ["body", "event"] }],
    ["a variable's value", { ...body, env_vars: { A: 1 } }, { type: "string_type", loc: ["body", "env_vars", "A"] }],
    [
      "a variable's name",
      { ...body, env_vars: { "A-B": "" } },
      { type: "invalid_key", loc: ["body", "env_vars", "A-B"] },
    ],
  ];
  for (const [name, input, issue] of issues)
    test(name, async () => {
      const answer = await api.client.post(run(), input);
      expect(answer.status).toBe(422);
      expect(answer.body["detail"]).toEqual([{ ...issue, msg: expect.any(String) }]);
    });

  test("in a list, by its number", async () => {
    const { body: answer } = await api.client.post("/sessions", {
      template_id: "python-basic",
      dependencies: [{ name: "a" }, { name: "-x" }],
    });
    expect(answer["detail"]).toEqual([
      { type: "string_pattern_mismatch", loc: ["body", "dependencies", 1, "name"], msg: expect.any(String) },
    ]);
  });

  test("several at once, each place once, and not without end", async () => {
    const { body: answer } = await api.client.post(run(), {
      env_vars: Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`V${i}`, 1])),
    });
    expect(answer["detail"].slice(0, 2).map((one: { loc: unknown }) => one.loc)).toEqual([
      ["body", "code"],
      ["body", "language"],
    ]);
    expect(answer["detail"].length).toBe(32);
  });

  test("in the query", async () => {
    const answer = await api.client.get("/sessions?limit=ten&offset=-1&status=odd");
    expect(answer.body["detail"].map((one: { type: string; loc: unknown }) => [one.type, one.loc])).toEqual([
      ["enum", ["query", "status"]],
      ["int_parsing", ["query", "limit"]],
      ["greater_than_equal", ["query", "offset"]],
    ]);
  });

  test("null for an optional field is as if it were absent; unknown fields are ignored", async () => {
    const answer = await api.client.post("/sessions", {
      template_id: "python-basic",
      id: null,
      timeout: null,
      cpu: null,
      env_vars: null,
      dependencies: null,
      event: 1,
      __proto__x: {},
    });
    expect(answer.status).toBe(201);
    expect(answer.body["timeout"]).toBe(300);
  });
});

describe("what is wrong inside stays inside", () => {
  test("500 is logged under the request id, with nothing of it in the answer", async () => {
    api.executor.fileFailure = new Error("secret of the inside");
    const answer = await api.client.call("GET", `/sessions/${session}/files`, undefined, {
      "X-Request-ID": "my-request.1",
    });
    api.executor.fileFailure = null;
    expect(answer).toMatchObject({ status: 500, body: { code: "internal", request_id: "my-request.1" } });
    expect(JSON.stringify(answer.body)).not.toContain("secret");
    const line = api.logged.find((one) => one["event"] === "http.failed");
    expect(line).toMatchObject({
      level: "error",
      request_id: "my-request.1",
      error: { message: "secret of the inside" },
    });
  });

  test("429 and 503 say when to come again", async () => {
    api.executor.fileFailure = new AppError("executor_unavailable", "the executor does not answer", {
      cause: new Error("socket /secret"),
    });
    const down = await api.client.get(`/sessions/${session}/files`);
    api.executor.fileFailure = new AppError("queue_full", "full", { retryAfterS: 2.2 });
    const full = await api.client.get(`/sessions/${session}/files`);
    api.executor.fileFailure = null;
    expect([down.status, down.headers.get("Retry-After")]).toEqual([503, "1"]);
    expect([full.status, full.headers.get("Retry-After")]).toEqual([429, "3"]);
    expect(JSON.stringify(down.body)).not.toContain("secret");
  });
});

describe("every response", () => {
  test("carries the caller's request id if it is a sane one, else a new one", async () => {
    const id = "A-1_b.c".repeat(18);
    expect(
      (await api.client.call("GET", "/health", undefined, { "X-Request-ID": id })).headers.get("X-Request-ID"),
    ).toBe(id);
    for (const bad of ["x".repeat(129), "a b", "a/b", "é"]) {
      const given = (await api.client.call("GET", "/health", undefined, { "X-Request-ID": bad })).headers.get(
        "X-Request-ID",
      );
      expect(given).toMatch(/^[0-9a-f]{32}$/);
    }
  });

  test("carries the phases that the request went through", async () => {
    const { headers } = await api.client.post(`${run()}?wait=10`, { language: "shell", code: 'out "x"' });
    expect(headers.get("Server-Timing")).toMatch(
      /^queue;dur=0\.50, spawn;dur=1\.25, run;dur=2\.00, total;dur=\d+\.\d\d$/,
    );
    expect((await api.client.get("/nope")).headers.get("Server-Timing")).toMatch(/^total;dur=\d/);
  });

  test("has one line in the log, without query, key or body", async () => {
    await api.client.call("GET", "/sessions?limit=3", undefined, { "X-Request-ID": "logged-1", "X-API-Key": "sekrit" });
    const lines = api.logged.filter((one) => one["request_id"] === "logged-1");
    expect(lines).toEqual([
      {
        at: expect.any(String),
        level: "info",
        event: "http.request",
        request_id: "logged-1",
        method: "GET",
        path: "/api/v1/sessions",
        status: 200,
        ms: expect.any(Number),
        tenant: "default",
      },
    ]);
  });

  test("HEAD is answered like GET, without the body", async () => {
    const head = await fetch(`${api.url}/healthz`, { method: "HEAD" });
    expect(head.status).toBe(200);
    expect(head.headers.get("Content-Type")).toBe("application/json");
    expect(await head.text()).toBe("");
  });
});
