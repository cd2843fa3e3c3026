import { describe, expect, test } from "bun:test";
import { conformanceTarget } from "./target.ts";

const client = conformanceTarget();
const input = (id: string) => ({
  id,
  name: `Name of ${id}`,
  image_url: "sandbox-template-python-basic:latest",
  runtime_type: "python3.11",
  default_cpu_cores: 1.5,
  default_memory_mb: 256,
  default_disk_mb: 300,
  default_timeout: 90,
  default_env_vars: { GREETING: "hello" },
});

describe("templates", () => {
  test("the two of the first start are there, in a bare array by name", async () => {
    const { body } = await client().get("/templates");
    expect(body).toBeArray();
    const ids = (body as unknown as { id: string }[]).map((one) => one.id);
    expect(ids).toContain("python-basic");
    expect(ids).toContain("nodejs-basic");
  });

  test("what was sent comes back unchanged, and sessions start from it", async () => {
    const id = `t-${crypto.randomUUID().slice(0, 8)}`;
    const made = await client().post("/templates", input(id));
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ ...input(id), default_timeout_sec: 90, is_active: true, warm_pool_size: 0 });
    const session = await client().session({ template_id: id });
    const record = (await client().get(`/sessions/${session}`)).body;
    expect(record).toMatchObject({ timeout: 90, resource_limit: { cpu: "1.5", memory: "256Mi", disk: "300Mi" } });
    expect((await client().run(session, "import os; print(os.environ['GREETING'])"))["stdout"]).toBe("hello\n");
    expect((await client().call("DELETE", `/templates/${id}`)).status).toBe(409);
    await client().raw("DELETE", `/sessions/${session}`);
    const gone = await client().call("DELETE", `/templates/${id}`);
    expect(gone.status).toBe(200);
    expect(typeof gone.body["message"]).toBe("string");
    expect((await client().get(`/templates/${id}`)).status).toBe(404);
  });

  test("PUT changes any field but id and runtime_type", async () => {
    const id = `t-${crypto.randomUUID().slice(0, 8)}`;
    await client().post("/templates", input(id));
    const changed = await client().call("PUT", `/templates/${id}`, {
      default_memory_mb: 1024,
      runtime_type: "bun",
      id: "other",
    });
    expect(changed).toMatchObject({
      status: 200,
      body: { id, runtime_type: "python3.11", default_memory_mb: 1024, default_disk_mb: 300 },
    });
    await client().call("DELETE", `/templates/${id}`);
  });

  test("a taken id or name is 409, an unknown one 404, a bad one 422", async () => {
    const id = `t-${crypto.randomUUID().slice(0, 8)}`;
    await client().post("/templates", input(id));
    expect((await client().post("/templates", input(id))).status).toBe(409);
    expect((await client().post("/templates", { ...input(`${id}b`), name: input(id).name })).status).toBe(409);
    expect((await client().call("PUT", "/templates/nope", { name: "x" })).status).toBe(404);
    for (const bad of [
      { runtime_type: "perl" },
      { default_cpu_cores: 0 },
      { default_memory_mb: 1 },
      { default_timeout: 59 },
      { name: "" },
    ])
      expect((await client().post("/templates", { ...input(`${id}c`), ...bad })).status).toBe(422);
    await client().call("DELETE", `/templates/${id}`);
  });
});
