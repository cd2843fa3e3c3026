import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { startApi, type Api } from "./fixture.ts";

let api: Api;
beforeAll(async () => {
  api = await startApi();
});
afterAll(() => api.stop());

const SESSION_FIELDS =
  "id template_id status resource_limit workspace_path language_runtime runtime_type runtime_node container_id pod_name env_vars timeout " +
  "expires_at network python_package_index_url requested_dependencies installed_dependencies dependency_install_status dependency_install_error " +
  "dependency_install_started_at dependency_install_completed_at error_message created_at updated_at completed_at last_activity_at";

describe("sessions", () => {
  test("are answered with the contract's fields and nothing of the inside", async () => {
    const made = await api.client.post("/sessions?wait=5", { template_id: "python-basic", cpu: 0.5, memory: "1Gi" });
    expect(made.status).toBe(201);
    expect(Object.keys(made.body)).toEqual(SESSION_FIELDS.split(" "));
    expect(made.body).toMatchObject({
      status: "running",
      resource_limit: { cpu: "0.5", memory: "1Gi", max_processes: 128 },
    });
    expect(made.headers.get("Location")).toBe(`/api/v1/sessions/${made.body["id"]}`);
    expect((await api.client.get(`/sessions/${made.body["id"]}`)).body).toEqual(made.body);
  });

  test("are answered while creating when nobody waits", async () => {
    const made = await api.client.post("/sessions", { template_id: "python-basic" });
    expect(made).toMatchObject({ status: 201, body: { status: "creating" } });
  });

  test("wait is 0 to 60 seconds", async () => {
    for (const wait of ["-1", "60.1", "x", "1e9", ""])
      expect([wait, (await api.client.post(`/sessions?wait=${wait}`, { template_id: "python-basic" })).status]).toEqual(
        [wait, 422],
      );
    expect((await api.client.post("/sessions?wait=0.5", { template_id: "python-basic" })).status).toBe(201);
  });

  test("are listed in pages of 1 to 200", async () => {
    for (const [limit, clamped] of [
      ["0", 1],
      ["-5", 1],
      ["201", 200],
      ["3", 3],
    ] as const)
      expect((await api.client.get(`/sessions?limit=${limit}`)).body["limit"]).toBe(clamped);
    const { body } = await api.client.get("/sessions?limit=1&offset=1");
    expect(Object.keys(body)).toEqual(["items", "total", "limit", "offset", "has_more"]);
    expect(body).toMatchObject({ limit: 1, offset: 1, has_more: body["total"] > 2 });
    const last = (await api.client.get(`/sessions?offset=${body["total"] - 1}`)).body;
    expect([last["items"].length, last["has_more"]]).toEqual([1, false]);
    expect((await api.client.get("/sessions?offset=99999999999999999999")).status).toBe(422);
    for (const [limit, clamped] of [
      ["99999999999999999999", 200],
      ["-99999999999999999999", 1],
    ])
      expect((await api.client.get(`/sessions?limit=${limit}`)).body["limit"]).toBe(clamped);
  });

  test("end once and go", async () => {
    const id = await api.client.session();
    const ended = await api.client.post(`/sessions/${id}/terminate`);
    expect(ended).toMatchObject({ status: 200, body: { status: "terminated" } });
    expect((await api.client.call("POST", `/sessions/${id}/terminate`)).status).toBe(200);
    expect(await api.client.call("PATCH", `/sessions/${id}`, { timeout: 5 })).toMatchObject({
      status: 409,
      body: { code: "session_ended" },
    });
    expect((await api.client.call("DELETE", `/sessions/${id}`)).status).toBe(204);
    expect((await api.client.call("DELETE", `/sessions/${id}`)).status).toBe(404);
  });

  test("a path that ends with / is none: a deleted file's parent is never the session", async () => {
    const id = await api.client.session();
    expect((await api.client.call("DELETE", `/sessions/${id}/files/..`)).status).toBe(404);
    expect((await api.client.get(`/sessions/${id}`)).status).toBe(200);
  });

  const dependencies: [unknown, number][] = [
    [{ name: "requests", version: "2.32.3" }, 201],
    [{ name: "uvicorn[standard]", version: ">=0.30,<1" }, 201],
    [{ name: "a_b.c-d", version: null }, 201],
    [{ name: "-r" }, 422],
    [{ name: "--index-url=http://x" }, 422],
    [{ name: "x @ file:///etc" }, 422],
    [{ name: "a b" }, 422],
    [{ name: "a\n-r" }, 422],
    [{ name: "x".repeat(101) }, 422],
    [{ name: "x", version: "--pre" }, 422],
    [{ name: "x", version: "1 --pre" }, 422],
    [{ name: "x", version: "==1; python_version>'3'" }, 422],
    ["requests", 422],
  ];
  for (const [dependency, status] of dependencies)
    test(`dependency ${JSON.stringify(dependency).slice(0, 60)}: ${status}`, async () => {
      const body = { template_id: "python-basic", dependencies: [dependency] };
      expect((await api.client.post("/sessions", body)).status).toBe(status);
    });
});

describe("templates", () => {
  test("are a bare array by name, and go with a message", async () => {
    const { body } = await api.client.get("/templates");
    expect((body as unknown as { id: string }[]).map((one) => one.id)).toEqual(["nodejs-basic", "python-basic"]);
    const input = {
      id: "t 1%",
      name: "T",
      image_url: "sandbox-template-python-basic:x",
      runtime_type: "bun",
      default_timeout: 60,
    };
    const made = await api.client.post("/templates", input);
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ ...input, default_timeout_sec: 60, default_cpu_cores: 0.5, is_active: true });
    const path = `/templates/${encodeURIComponent(input.id)}`;
    expect((await api.client.call("PUT", path, { default_disk_mb: 300, id: "x" })).body).toMatchObject({
      id: input.id,
      default_disk_mb: 300,
    });
    const gone = await api.client.call("DELETE", path);
    expect([gone.status, typeof gone.body["message"]]).toEqual([200, "string"]);
    expect((await api.client.get(path)).status).toBe(404);
  });

  test("one that a live session uses stays", async () => {
    const id = await api.client.session();
    expect(await api.client.call("DELETE", "/templates/python-basic")).toMatchObject({
      status: 409,
      body: { code: "template_in_use" },
    });
    await api.client.call("DELETE", `/sessions/${id}`);
  });
});

test("one whose sandbox is still waited for is terminated at once", async () => {
  const waits = Promise.withResolvers<void>();
  const slow = await startApi({
    provisioner: (usual) => ({
      ...usual,
      ensure: (_session, signal) =>
        new Promise((_, reject) => {
          signal?.addEventListener("abort", () => reject(new AppError("executor_unavailable", "no Pod yet")));
          waits.resolve();
        }),
    }),
  });
  try {
    const made = await slow.client.post("/sessions", { template_id: "python-basic" });
    await waits.promise;
    const ended = await slow.client.post(`/sessions/${made.body["id"]}/terminate`, {});
    expect(ended).toMatchObject({ status: 200, body: { status: "terminated" } });
  } finally {
    await slow.stop();
  }
}, 5000);

test("a second deletion that comes late leaves the next session of the id alone", async () => {
  let beforeEnd: (() => Promise<void>) | null = null;
  const own = await startApi({
    provisioner: (usual) => ({
      ...usual,
      release: async (...all) => {
        await usual.release(...all);
        const meanwhile = all[1].deleteWorkspace ? beforeEnd : null;
        if (meanwhile === null) return;
        beforeEnd = null;
        await meanwhile();
      },
    }),
  });
  try {
    const body = { id: "again", template_id: "python-basic" };
    await own.client.post("/sessions?wait=5", body);
    beforeEnd = async () => {
      await own.deps.sessions.forget("again");
      expect((await own.client.post("/sessions?wait=5", body)).status).toBe(201);
    };
    expect((await own.client.raw("DELETE", "/sessions/again")).status).toBe(204);
    expect(await own.client.get("/sessions/again")).toMatchObject({ status: 200, body: { status: "running" } });
  } finally {
    await own.stop();
  }
});
