import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Client } from "./client.ts";
import { startServer, type Server } from "./server.ts";

let server: Server;
let client: Client;
let target: Bun.Server<undefined>;
let rule = "";
beforeAll(async () => {
  target = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("reached") });
  rule = `127.0.0.1:${target.port}`;
  server = await startServer();
  client = new Client(server.url);
});
afterAll(async () => {
  await server.stop();
  await target.stop(true);
});

async function template(id: string, fields: Record<string, unknown> = {}): Promise<void> {
  const common = { id, name: id, image_url: "sandbox-template-python-basic:latest", runtime_type: "python3.11" };
  const made = await client.post("/templates", { ...common, network: { allow: [rule] }, ...fields });
  expect(made).toMatchObject({ status: 201, body: { network: { allow: [rule] } } });
}

/** What a program of the session gets from the target; the word "nothing" when it gets nothing. */
async function fetched(session: string): Promise<string> {
  const code = `
import os, urllib.request
os.environ.update(NO_PROXY="", no_proxy="")
try:
    print(urllib.request.urlopen("http://${rule}/", timeout=5).read().decode(), end="")
except OSError:
    print("nothing", end="")`;
  return (await client.run(session, code))["stdout"] as string;
}

describe("a template with network rules", () => {
  test("its sessions have them unless they give their own, which may be none", async () => {
    await template("net");
    const rules = [undefined, { allow: [] }, { allow: ["127.0.0.1:1"] }, null];
    const got = [];
    for (const network of rules) {
      const { body } = await client.post("/sessions?wait=30", { template_id: "net", network });
      got.push([body["network"].allow, await fetched(body["id"] as string)]);
      await client.raw("DELETE", `/sessions/${body["id"]}`);
    }
    expect(got).toEqual([
      [[rule], "reached"],
      [[], "nothing"],
      [["127.0.0.1:1"], "nothing"],
      [[rule], "reached"],
    ]);
  });

  test("a change holds for sessions that are made afterwards", async () => {
    await template("open");
    const before = await client.session({ template_id: "open" });
    const changed = await client.call("PUT", "/templates/open", { network: { allow: [] } });
    expect(changed).toMatchObject({ status: 200, body: { network: { allow: [] } } });
    const after = await client.session({ template_id: "open" });
    expect([await fetched(before), await fetched(after)]).toEqual(["reached", "nothing"]);
    for (const id of [before, after]) await client.raw("DELETE", `/sessions/${id}`);
  });

  test("a sandbox of its warm pool has them, and what it asks for is in the session's audit", async () => {
    await template("pooled", { warm_pool_size: 1 });
    const end = performance.now() + 15_000;
    while (!(await (await fetch(`${server.url}/metrics`)).text()).includes('pool_size{template="pooled"} 1')) {
      if (performance.now() > end) throw new Error("the pool is never full");
      await Bun.sleep(20);
    }
    const { body } = await client.post("/sessions", { template_id: "pooled" });
    expect(body["status"]).toBe("running");
    expect(await fetched(body["id"] as string)).toBe("reached");
    const audit = await client.get(`/sessions/${body["id"]}/audit`);
    expect(audit.body["items"]).toEqual([expect.objectContaining({ host: "127.0.0.1", allowed: true })]);
    const none = await client.session({ template_id: "pooled", network: { allow: [] } });
    expect(await fetched(none)).toBe("nothing");
    await client.call("PUT", "/templates/pooled", { warm_pool_size: 0 });
    for (const id of [body["id"], none]) await client.raw("DELETE", `/sessions/${id}`);
  });

  test("rules that can't be read are refused, and the default is none", async () => {
    const common = { id: "bad", name: "bad", image_url: "sandbox-template-python-basic", runtime_type: "bun" };
    const refused = await client.post("/templates", { ...common, network: { allow: ["http://x/"] } });
    expect(refused).toMatchObject({ status: 400, body: { code: "bad_request" } });
    for (const network of [["x"], {}, { allow: "x" }, { allow: [1] }])
      expect([network, (await client.post("/templates", { ...common, network })).status]).toEqual([network, 422]);
    const plain = await client.get("/templates/python-basic");
    expect(plain.body["network"]).toEqual({ allow: [] });
  });
});
