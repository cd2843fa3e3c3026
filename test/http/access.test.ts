import { afterEach, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { Client } from "../e2e/client.ts";
import { startApi, type Api, type ApiOptions } from "./fixture.ts";

const open: Api[] = [];
async function start(options: ApiOptions = {}): Promise<Api> {
  const api = await startApi(options);
  open.push(api);
  return api;
}
afterEach(async () => {
  for (const api of open.splice(0)) await api.stop();
});

const status = async (api: Api, path: string, headers: Record<string, string> = {}, method = "GET"): Promise<number> =>
  (await fetch(api.url + path, { method, headers })).status;

describe("on loopback without keys", () => {
  test("its own names are open, foreign ones refused", async () => {
    const api = await start({ config: { allowedHosts: ["box.example", "*.lan"] } });
    for (const host of [
      "localhost",
      "localhost:9",
      "LOCALHOST",
      "127.0.0.1",
      "127.8.8.8:1",
      "[::1]:80",
      "a.localhost",
      "box.example",
      "x.y.lan:3",
    ])
      expect([host, await status(api, "/api/v1/sessions", { Host: host })]).toEqual([host, 200]);
    for (const host of [
      "evil.example",
      "10.0.0.1",
      "localhost.evil.example",
      "127.0.0.1.evil.example",
      "lan",
      "[::2]",
      "a:b@localhost",
    ])
      expect([host, await status(api, "/api/v1/sessions", { Host: host })]).toEqual([host, 403]);
    expect(await status(api, "/healthz", { Host: "evil.example" })).toBe(403);
    const refused = await fetch(`${api.url}/api/v1/sessions`, { headers: { Host: "evil.example" } });
    expect(((await refused.json()) as { code: string }).code).toBe("forbidden_origin");
  });

  test("a foreign Origin is refused, also of another port or without a name", async () => {
    const api = await start({ config: { corsOrigins: ["https://app.example"] } });
    const own = `http://127.0.0.1:${api.port}`;
    expect(await status(api, "/api/v1/sessions", { Origin: own })).toBe(200);
    expect(await status(api, "/api/v1/sessions", { Origin: "https://app.example" })).toBe(200);
    for (const origin of ["https://evil.example", "http://127.0.0.1:1", "null", `${own}.evil.example`])
      expect([origin, await status(api, "/api/v1/sessions", { Origin: origin })]).toEqual([origin, 403]);
  });

  test("the first key closes it at once", async () => {
    const api = await start();
    const made = await api.client.post("/keys", { name: "alice" });
    expect(made).toMatchObject({ status: 201, body: { name: "alice", tenant: "alice" } });
    expect(made.body["key"]).toStartWith("sbx_");
    expect(made.headers.get("Cache-Control")).toBe("no-store");
    expect(await status(api, "/api/v1/sessions")).toBe(401);
    expect(await status(api, "/api/v1/sessions", { Authorization: `Bearer ${made.body["key"]}` })).toBe(200);
  });
});

describe("with keys", () => {
  const apiKeys = [
    { name: "alice", key: "key-of-alice" },
    { name: "bob", key: "key-of-bob" },
    { name: "default", key: "key-of-operator" },
  ];

  test("a key is needed everywhere but on the public routes", async () => {
    const api = await start({ apiKeys });
    for (const path of ["/", "/docs", "/openapi.json", "/api/v1/health", "/healthz", "/readyz"])
      expect([path, await status(api, path)]).toEqual([path, 200]);
    for (const path of [
      "/api/v1/sessions",
      "/api/v1/health/detailed",
      "/api/v1/keys",
      "/api/v1/nope",
      "/docs/x",
      "/healthz/../api/v1/keys",
    ])
      expect([path, await status(api, path)]).toEqual([path, 401]);
    const refused = await fetch(`${api.url}/api/v1/sessions`);
    expect(refused.headers.get("WWW-Authenticate")).toBe("Bearer");
    expect(await refused.json()).toMatchObject({ error: "Unauthorized", code: "unauthorized" });
  });

  test("as bearer token or X-API-Key, whole and right", async () => {
    const api = await start({ apiKeys });
    const good: Record<string, string>[] = [
      { Authorization: "Bearer key-of-alice" },
      { Authorization: "bearer  key-of-alice" },
      { "X-API-Key": "key-of-alice" },
    ];
    for (const headers of good) expect(await status(api, "/api/v1/sessions", headers)).toBe(200);
    const bad: Record<string, string>[] = [
      { Authorization: "Bearer key-of-alic" },
      { Authorization: "Basic key-of-alice" },
      { Authorization: "Bearer" },
      { "X-API-Key": "" },
      { "X-API-Key": "key-of-Alice" },
    ];
    for (const headers of bad) expect(await status(api, "/api/v1/sessions", headers)).toBe(401);
  });

  test("a foreign Host is no matter then", async () => {
    const api = await start({ apiKeys });
    expect(await status(api, "/api/v1/sessions", { Host: "sandbox.example", "X-API-Key": "key-of-alice" })).toBe(200);
  });

  test("a tenant sees its own alone; the other's is 404", async () => {
    const api = await start({ apiKeys });
    const alice = new Client(api.url, { "X-API-Key": "key-of-alice" });
    const bob = new Client(api.url, { "X-API-Key": "key-of-bob" });
    const session = await alice.session();
    const { id } = await alice.run(session, 'out "x"');
    await alice.raw("PUT", `/sessions/${session}/files/f`, "x");
    for (const path of [
      `/sessions/${session}`,
      `/executions/${id}`,
      `/executions/${id}/events`,
      `/sessions/${session}/executions`,
      `/sessions/${session}/files`,
      `/sessions/${session}/files/f`,
    ])
      expect([path, (await bob.raw("GET", path)).status, (await alice.raw("GET", path)).status]).toEqual([
        path,
        404,
        200,
      ]);
    for (const path of [`/sessions/${session}/terminate`, `/executions/${id}/cancel`])
      expect((await bob.post(path)).status).toBe(404);
    expect((await bob.post(`/sessions/${session}/executions`, { language: "shell", code: "x" })).status).toBe(404);
    expect((await bob.raw("PUT", `/sessions/${session}/files/f`, "y")).status).toBe(404);
    expect((await bob.raw("DELETE", `/sessions/${session}`)).status).toBe(404);
    expect((await bob.get("/sessions")).body["total"]).toBe(0);
    expect((await alice.get("/sessions")).body["total"]).toBe(1);
  });

  test("keys: the operator manages all, a tenant its own; a revoked one is refused at once", async () => {
    const api = await start({ apiKeys });
    const operator = new Client(api.url, { "X-API-Key": "key-of-operator" });
    const alice = new Client(api.url, { "X-API-Key": "key-of-alice" });
    const made = await operator.post("/keys", { name: "carol" });
    expect(made.status).toBe(201);
    expect((await operator.post("/keys", { name: "carol" })).body["code"]).toBe("key_exists");
    expect((await alice.post("/keys", { name: "x", tenant: "bob" })).status).toBe(400);
    expect((await alice.post("/keys", { name: "second" })).body["tenant"]).toBe("alice");
    expect((await alice.get("/keys")).body["items"].map((one: { name: string }) => one.name)).toEqual([
      "alice",
      "second",
    ]);
    expect(JSON.stringify((await operator.get("/keys")).body)).not.toContain(made.body["key"]);
    const carol = new Client(api.url, { "X-API-Key": made.body["key"] });
    expect((await carol.get("/sessions")).status).toBe(200);
    expect((await alice.call("DELETE", "/keys/carol")).status).toBe(404);
    expect((await operator.call("DELETE", "/keys/carol")).status).toBe(204);
    expect((await carol.get("/sessions")).status).toBe(401);
    expect((await operator.post("/keys", { name: "bad name" })).status).toBe(422);
  });
});

describe("a stream that is open", () => {
  const apiKeys = [{ name: "default", key: "key-of-operator" }];
  const opened = async (change: ApiOptions["change"] = () => ({ keyRecheckMs: 20 })) => {
    const api = await start({ apiKeys, change });
    const operator = new Client(api.url, { "X-API-Key": "key-of-operator" });
    const made = await operator.post("/keys", { name: "carol" });
    const carol = new Client(api.url, { "X-API-Key": made.body["key"] });
    const execution = await carol.submit(await carol.session(), "hang");
    const stream = carol.events(execution);
    await stream.next();
    return { api, operator, carol, execution, stream };
  };

  test("ends without `end` when its key is revoked; others and the execution go on", async () => {
    const { operator, carol, execution, stream } = await opened();
    const other = await operator.post("/keys", { name: "second", tenant: "carol" });
    const second = new Client(carol.base.replace("/api/v1", ""), { "X-API-Key": other.body["key"] });
    const lasting = second.events(execution);
    await lasting.next();
    expect((await operator.call("DELETE", "/keys/carol")).status).toBe(204);
    const rest = await Array.fromAsync(stream);
    expect(rest.map(({ type }) => type)).not.toContain("end");
    expect((await carol.raw("GET", `/executions/${execution}/events`)).status).toBe(401);
    expect((await second.get(`/executions/${execution}`)).body["status"]).toBe("running");
    expect((await second.post(`/executions/${execution}/cancel`)).status).toBe(200);
    expect((await Array.fromAsync(lasting)).at(-1)?.type).toBe("end");
  });

  test("goes on while the keys can't be read", async () => {
    let looks = 0;
    let isBroken = false;
    const looked = Promise.withResolvers<void>();
    const { carol, execution, stream } = await opened(({ keys }) => {
      const authenticate = keys.authenticate.bind(keys);
      keys.authenticate = (key) => {
        if (!isBroken) return authenticate(key);
        if (++looks === 3) looked.resolve();
        return Promise.reject(new AppError("store_unavailable", "the database does not answer"));
      };
      return { keyRecheckMs: 10 };
    });
    isBroken = true;
    await looked.promise;
    isBroken = false;
    await carol.post(`/executions/${execution}/cancel`);
    expect((await Array.fromAsync(stream)).at(-1)?.type).toBe("end");
  });

  test("of nobody ends when the first key closes the server", async () => {
    const api = await start({ change: () => ({ keyRecheckMs: 20 }) });
    const stream = api.client.events(await api.client.submit(await api.client.session(), "hang"));
    await stream.next();
    await api.client.post("/keys", { name: "alice" });
    expect((await Array.fromAsync(stream)).map(({ type }) => type)).not.toContain("end");
  });
});

test("beyond loopback a key is needed although there is none", async () => {
  const api = await start({ config: { host: "0.0.0.0" } });
  expect(await status(api, "/api/v1/sessions")).toBe(401);
  expect(await status(api, "/readyz")).toBe(200);
});

test("AUTH_MODE=none asks for no key", async () => {
  const api = await start({ config: { host: "0.0.0.0", authMode: "none" }, apiKeys: [{ name: "a", key: "k" }] });
  for (const host of ["anything.example", "a", "a:1"])
    expect(await status(api, "/api/v1/sessions", { Host: host })).toBe(200);
});

test("browsers of configured origins alone may call", async () => {
  const api = await start({ config: { corsOrigins: ["https://app.example"] }, apiKeys: [{ name: "a", key: "k" }] });
  const call = (origin: string, method = "GET", more: Record<string, string> = {}) =>
    fetch(`${api.url}/api/v1/sessions`, { method, headers: { Origin: origin, ...more } });
  const preflight = await call("https://app.example", "OPTIONS", { "Access-Control-Request-Method": "POST" });
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get("Access-Control-Allow-Origin")).toBe("https://app.example");
  expect(preflight.headers.get("Access-Control-Allow-Methods")).toContain("POST");
  expect(preflight.headers.get("Access-Control-Allow-Headers")).toContain("Authorization");
  expect(preflight.headers.get("Vary")).toBe("Origin");
  expect(
    (await call("https://app.example", "GET", { "X-API-Key": "k" })).headers.get("Access-Control-Allow-Origin"),
  ).toBe("https://app.example");
  expect(
    (await call("https://evil.example", "GET", { "X-API-Key": "k" })).headers.get("Access-Control-Allow-Origin"),
  ).toBeNull();
  expect(
    (await call("https://evil.example", "OPTIONS", { "Access-Control-Request-Method": "POST" })).headers.get(
      "Access-Control-Allow-Origin",
    ),
  ).toBeNull();
});

test("requests per minute are counted by tenant", async () => {
  const api = await start({
    config: { requestsPerMinute: 3 },
    apiKeys: [
      { name: "a", key: "k" },
      { name: "b", key: "l" },
    ],
  });
  for (let i = 0; i < 3; i++) expect(await status(api, "/api/v1/sessions", { "X-API-Key": "k" })).toBe(200);
  const refused = await fetch(`${api.url}/api/v1/sessions`, { headers: { "X-API-Key": "k" } });
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get("Retry-After"))).toBeGreaterThan(50);
  expect(await status(api, "/api/v1/sessions", { "X-API-Key": "l" })).toBe(200);
  expect(await status(api, "/healthz")).toBe(200);
});

test("live sessions and executions are counted by tenant; what ended makes room", async () => {
  const api = await start({
    perTenant: { sessions: 1, executions: 2 },
    apiKeys: [
      { name: "a", key: "k" },
      { name: "b", key: "l" },
    ],
  });
  const [a, b] = ["k", "l"].map((key) => new Client(api.url, { "X-API-Key": key })) as [Client, Client];
  const limited = { status: 429, body: { error: "Too Many Requests" } };
  const session = await a.session();
  const second = await a.post("/sessions", { template_id: "python-basic" });
  expect(second).toMatchObject({ ...limited, body: { code: "session_limit" } });
  expect(Number(second.headers.get("Retry-After"))).toBeGreaterThan(0);
  const running = [await a.submit(session, "hang"), await a.submit(session, "hang")];
  for (const path of ["executions", "executions?wait=1"]) {
    const third = await a.post(`/sessions/${session}/${path}`, { language: "python", code: "hang" });
    expect(third).toMatchObject({ ...limited, body: { code: "execution_limit" } });
    expect(Number(third.headers.get("Retry-After"))).toBeGreaterThan(0);
  }
  await b.submit(await b.session(), "hang");
  await a.post(`/executions/${running[0]}/cancel`);
  await a.submit(session, "hang");
  await a.post(`/sessions/${session}/terminate`);
  await a.session();
});
