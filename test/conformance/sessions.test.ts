import { describe, expect, test } from "bun:test";
import { conformanceTarget } from "./target.ts";

const client = conformanceTarget();
const unique = () => crypto.randomUUID().slice(0, 8);

describe("creating a session", () => {
  test("answers 201 with every field of the contract", async () => {
    const { status, body } = await client().post("/sessions?wait=30", {
      template_id: "python-basic",
      event: "x",
      mode: "y",
      z: 1,
    });
    expect(status).toBe(201);
    expect(body["id"]).toMatch(/^sess_\d{8}_[0-9a-f]{8}$/);
    expect(body).toMatchObject({
      template_id: "python-basic",
      status: "running",
      resource_limit: { cpu: expect.any(String), memory: "512Mi", disk: "1Gi", max_processes: expect.any(Number) },
      workspace_path: "/workspace",
      timeout: 300,
      requested_dependencies: [],
      installed_dependencies: [],
      dependency_install_status: "completed",
      dependency_install_error: null,
      error_message: null,
      completed_at: null,
    });
    for (const at of ["created_at", "updated_at", "expires_at", "last_activity_at"])
      expect(body[at]).toMatch(/^\d{4}-.*Z$/);
    await client().raw("DELETE", `/sessions/${body["id"]}`);
  });

  test("takes an id once", async () => {
    const id = `mine.${unique()}`;
    expect((await client().post("/sessions", { id, template_id: "python-basic" })).status).toBe(201);
    const again = await client().post("/sessions", { id, template_id: "python-basic" });
    expect(again).toMatchObject({ status: 409, body: { code: "session_exists" } });
    await client().raw("DELETE", `/sessions/${id}`);
  });

  test("an execution may be submitted while it is still creating", async () => {
    const { body } = await client().post("/sessions", { template_id: "python-basic" });
    const execution = await client().run(body["id"], "print('early')");
    expect(execution).toMatchObject({ status: "completed", stdout: "early\n" });
    await client().raw("DELETE", `/sessions/${body["id"]}`);
  });

  const refused: [string, Record<string, unknown>, number][] = [
    ["no template", {}, 422],
    ["unknown template", { template_id: "nope" }, 400],
    ["id with a slash", { template_id: "python-basic", id: "a/b" }, 422],
    ["id that starts with a dot", { template_id: "python-basic", id: ".a" }, 422],
    ["timeout 0", { template_id: "python-basic", timeout: 0 }, 422],
    ["timeout 3601", { template_id: "python-basic", timeout: 3601 }, 422],
    ["timeout as text", { template_id: "python-basic", timeout: "x" }, 422],
    ["cpu not a number", { template_id: "python-basic", cpu: "much" }, 422],
    ["cpu 0", { template_id: "python-basic", cpu: 0 }, 400],
    ["cpu beyond the maximum", { template_id: "python-basic", cpu: "9999" }, 400],
    ["memory without a unit", { template_id: "python-basic", memory: "512" }, 400],
    ["memory with another unit", { template_id: "python-basic", memory: "1G" }, 400],
    ["memory beyond the maximum", { template_id: "python-basic", memory: "999999Gi" }, 400],
    ["disk that is not a size", { template_id: "python-basic", disk: "big" }, 400],
    ["a loader variable", { template_id: "python-basic", env_vars: { LD_PRELOAD: "/x" } }, 400],
    ["a variable name with =", { template_id: "python-basic", env_vars: { "A=B": "x" } }, 422],
    ["a variable that is a number", { template_id: "python-basic", env_vars: { A: 1 } }, 422],
    ["an option as dependency", { template_id: "python-basic", dependencies: [{ name: "--index-url=x" }] }, 422],
    ["an index that is a file", { template_id: "python-basic", python_package_index_url: "file:///etc" }, 422],
  ];
  for (const [name, body, status] of refused)
    test(`${name}: ${status}`, async () => {
      const answer = await client().post("/sessions", body);
      expect([status, status === 422 ? 400 : 422]).toContain(answer.status);
      expect(answer.status).toBe(status);
      if (status === 422) {
        expect(answer.body["detail"]).toBeArray();
        expect(answer.body["detail"][0]).toEqual({
          type: expect.any(String),
          loc: expect.any(Array),
          msg: expect.any(String),
        });
        expect(["body", "query"]).toContain(answer.body["detail"][0].loc[0]);
      } else expect(typeof answer.body["detail"]).toBe("string");
    });
});

describe("living and ending", () => {
  test("lists newest first, by status and template, in pages", async () => {
    const ids = [await client().session(), await client().session(), await client().session()];
    const { body } = await client().get("/sessions?status=running&template_id=python-basic&limit=2");
    expect(body["items"].map((item: { id: string }) => item.id)).toEqual([ids[2], ids[1]]);
    expect(body).toMatchObject({ limit: 2, offset: 0, has_more: true });
    expect((await client().get("/sessions?limit=0")).body["limit"]).toBe(1);
    expect((await client().get("/sessions?limit=9999")).body["limit"]).toBe(200);
    for (const id of ids) await client().raw("DELETE", `/sessions/${id}`);
  });

  test("PATCH renews the deadline and its variables hold from the next execution on", async () => {
    const id = await client().session();
    const before = (await client().get(`/sessions/${id}`)).body;
    const { status, body } = await client().call("PATCH", `/sessions/${id}`, { timeout: 1000, env_vars: { V: "2" } });
    expect(status).toBe(200);
    expect(body).toMatchObject({ timeout: 1000, env_vars: { V: "2" } });
    expect(Date.parse(body["expires_at"])).toBeGreaterThan(Date.parse(before["expires_at"]));
    expect((await client().run(id, "import os; print(os.environ['V'])"))["stdout"]).toBe("2\n");
    await client().raw("DELETE", `/sessions/${id}`);
  });

  test("terminate: executions end as cancelled, the records stay, and it is idempotent", async () => {
    const id = await client().session();
    const execution = await client().submit(id, "print('hi', flush=True)\nimport time; time.sleep(60)");
    for await (const event of client().events(execution)) if (event.type === "stdout") break;
    const ended = await client().post(`/sessions/${id}/terminate`);
    expect(ended).toMatchObject({ status: 200, body: { status: "terminated" } });
    expect(ended.body["completed_at"]).toBeTruthy();
    expect((await client().post(`/sessions/${id}/terminate`)).body).toEqual(ended.body);
    expect((await client().get(`/executions/${execution}`)).body).toMatchObject({
      status: "cancelled",
      stdout: "hi\n",
      reason: "session_ended",
    });
    const late = await client().post(`/sessions/${id}/executions`, { language: "shell", code: "true" });
    expect(late).toMatchObject({ status: 409, body: { code: "session_ended" } });
    await client().raw("DELETE", `/sessions/${id}`);
  });

  test("DELETE: everything of it is gone, then 404", async () => {
    const id = await client().session();
    const execution = await client().run(id, "open('f','w').write('x')");
    expect((await client().raw("DELETE", `/sessions/${id}`)).status).toBe(204);
    for (const path of [
      `/sessions/${id}`,
      `/executions/${execution["id"]}`,
      `/sessions/${id}/files`,
      `/executions/${execution["id"]}/events`,
    ])
      expect((await client().get(path)).status).toBe(404);
    expect((await client().raw("DELETE", `/sessions/${id}`)).status).toBe(404);
  });

  test("ends by itself after its timeout without use, but never while an execution runs", async () => {
    const id = await client().session({ timeout: 1 });
    const execution = await client().run(id, "import time; time.sleep(4); print('done')");
    expect(execution).toMatchObject({ status: "completed", stdout: "done\n" });
    const end = Date.now() + 15_000;
    let status = "running";
    while (status === "running" && Date.now() < end) {
      await Bun.sleep(200);
      status = (await client().get(`/sessions/${id}`)).body["status"];
    }
    expect(status).toBe("terminated");
    await client().raw("DELETE", `/sessions/${id}`);
  }, 30_000);
});
