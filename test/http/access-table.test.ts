import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { OpenApiDocument, Operation } from "../../src/http/openapi.ts";
import { Client } from "../e2e/client.ts";
import { startApi, type Api } from "./fixture.ts";

/** Every route of the document with every kind of caller: a route that is added is in these tables by itself. */

const golden = (await Bun.file(new URL("../openapi/golden/openapi.json", import.meta.url)).json()) as OpenApiDocument;
const OPEN = ["GET /", "GET /api/v1/health", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /docs"];
const APP = "https://app.example";
const FOREIGN = "https://evil.example";

type Route = { name: string; method: string; path: string; operation: Operation };
const routes: Route[] = Object.entries(golden.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => {
    const verb = method.toUpperCase();
    return { name: `${verb} ${path}`, method: verb, path, operation };
  }),
);
const closed = routes.filter(({ name }) => !OPEN.includes(name));

/** What a caller owns that a route may name. */
type Owned = { session_id: string; execution_id: string; template_id: string; name: string; path: string };

let api: Api;
let operator: Client;
let alice: Client;
const metrics = {
  request: () => {},
  streamClients: () => {},
  contentType: "text/plain; version=0.0.4",
  text: () => Promise.resolve(""),
};

beforeAll(async () => {
  api = await startApi({
    config: { corsOrigins: [APP] },
    change: () => ({ metrics }),
    apiKeys: ["default", "alice", "bob"].map((name) => ({ name, key: `key-of-${name}` })),
  });
  operator = new Client(api.url, { "X-API-Key": "key-of-default" });
  alice = new Client(api.url, { "X-API-Key": "key-of-alice" });
});
afterAll(() => api.stop());

let made = 0;
/** Everything that a route may name, made anew and Alice's. */
async function owned(): Promise<Owned> {
  const unique = `table-${++made}`;
  const session_id = await alice.session();
  const { id } = await alice.run(session_id, 'out "x"');
  await alice.raw("PUT", `/sessions/${session_id}/files/draft.txt`, "x");
  await alice.post("/keys", { name: unique });
  const template = { id: unique, name: unique, image_url: "example.com/x:1", runtime_type: "python3.11" };
  await alice.post("/templates", template);
  return { session_id, execution_id: id as string, template_id: unique, name: unique, path: "draft.txt" };
}

function pathOf(route: Route, names: Owned): string {
  return route.path.replaceAll(/\{(\w+)\}/g, (_, name: keyof Owned) => names[name]);
}

/** Calls a route with the document's own example of a body, and no more than that. */
async function call(server: Api, route: Route, names: Owned, headers: Record<string, string>): Promise<Response> {
  const [type, media] = Object.entries(route.operation.requestBody?.content ?? {})[0] ?? [];
  let body: Bun.BodyInit | undefined;
  if (type === "multipart/form-data") {
    body = new FormData();
    body.set("file", new Blob(["x"]), "uploaded.txt");
  } else if (type === "application/json") {
    const example = media?.example as Record<string, unknown>;
    const own = {
      ...("code" in example ? { code: 'out "x"' } : {}),
      ...("image_url" in example ? { name: `name of ${names.name}` } : {}),
      ...("tenant" in example ? { tenant: null } : {}),
    };
    body = JSON.stringify({ ...example, ...own });
    headers = { ...headers, "Content-Type": type };
  } else if (type !== undefined) body = "x";
  return fetch(server.url + pathOf(route, names), {
    method: route.method,
    headers,
    ...(body === undefined ? {} : { body }),
  });
}

async function codeOf(route: Route, names: Owned, headers: Record<string, string>): Promise<[number, string]> {
  const response = await call(api, route, names, headers);
  const text = await response.text();
  const { code = "" } = response.status >= 400 && text !== "" ? (JSON.parse(text) as { code?: string }) : {};
  return [response.status, code];
}

test("the document says of each route whether it is open, and only the contract's are", () => {
  const open = routes.filter(({ operation }) => operation.security?.length === 0).map(({ name }) => name);
  expect(open.toSorted()).toEqual(OPEN.toSorted());
});

test("the document that is served has the same routes", async () => {
  const served = (await (await fetch(`${api.url}/openapi.json`)).json()) as OpenApiDocument;
  expect(Object.keys(served.paths)).toEqual(Object.keys(golden.paths));
});

describe("open to all", () => {
  for (const name of OPEN)
    test(name, async () => {
      const route = routes.find((one) => one.name === name);
      if (route === undefined) throw new Error("not in the document");
      for (const key of [undefined, "wrong", "key-of-alice"])
        expect((await call(api, route, {} as Owned, key === undefined ? {} : { "X-API-Key": key })).status).toBe(200);
    });
});

describe("closed without a valid key, and to other tenants as if it were not there", () => {
  for (const route of closed)
    test(route.name, async () => {
      const names = await owned();
      const revoked = await operator.post("/keys", { name: `revoked-${names.name}`, tenant: "alice" });
      const usable = { "X-API-Key": revoked.body["key"] as string };
      expect((await alice.raw("GET", "/sessions", undefined, usable)).status).toBe(200);
      expect((await operator.call("DELETE", `/keys/revoked-${names.name}`)).status).toBe(204);

      const refused: [number, string] = [401, route.method === "HEAD" ? "" : "unauthorized"];
      for (const headers of [{}, { "X-API-Key": "wrong" }, { Authorization: "Bearer wrong" }, usable])
        expect(await codeOf(route, names, headers)).toEqual(refused);

      const bob = { "X-API-Key": "key-of-bob" };
      if (/\{(session_id|execution_id|name)\}/.test(route.path)) {
        const nobodys = { ...names, session_id: "sess_none", execution_id: "exec_none", name: "none" };
        const [status, code] = await codeOf(route, names, bob);
        expect(status).toBe(404);
        expect([status, code]).toEqual(await codeOf(route, nobodys, bob));
      }
      const [status, code] = await codeOf(route, names, { "X-API-Key": "key-of-alice" });
      expect({ code, isFine: status < 300 }).toEqual({ code: "", isFine: true });
    });
});

describe("lists have the caller's own alone", () => {
  const lists = closed.filter(
    ({ method, path }) => method === "GET" && !path.includes("{") && !path.endsWith("/templates"),
  );
  for (const route of lists)
    test(route.name, async () => {
      const names = await owned();
      const text = await (await call(api, route, names, { "X-API-Key": "key-of-bob" })).text();
      expect(text).not.toContain(names.session_id);
      expect(text).not.toContain(`"${names.name}"`);
    });
});

describe("on loopback without a key, a foreign Host or Origin is refused", () => {
  let local: Api;
  beforeAll(async () => {
    local = await startApi({ config: { corsOrigins: [APP] }, change: () => ({ metrics }) });
  });
  afterAll(() => local.stop());
  const names = { session_id: "s", execution_id: "e", template_id: "t", name: "n", path: "p" };

  for (const route of routes)
    test(route.name, async () => {
      for (const headers of [{ Host: "evil.example" }, { Origin: FOREIGN }, { Origin: "null" }])
        expect((await call(local, route, names, headers)).status).toBe(403);
      // Without a body, so that nothing is made: the first key would close the server.
      const url = local.url + pathOf(route, names);
      expect((await fetch(url, { method: route.method, headers: { Origin: APP } })).status).not.toBe(403);
    });
});

describe("a browser's page may read the answer if its origin is configured", () => {
  for (const route of routes)
    test(route.name, async () => {
      const allowed = async (origin: string, method = route.method) => {
        const asked = { "Access-Control-Request-Method": route.method };
        const path = route.path.replaceAll(/[{}]/g, "");
        const response = await fetch(api.url + path, {
          method,
          headers: { Origin: origin, ...(method === "OPTIONS" ? asked : {}) },
        });
        return response.headers.get("Access-Control-Allow-Origin");
      };
      expect([await allowed(APP), await allowed(APP, "OPTIONS")]).toEqual([APP, APP]);
      expect([await allowed(FOREIGN), await allowed(FOREIGN, "OPTIONS")]).toEqual([null, null]);
    });
});
