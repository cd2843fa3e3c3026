import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { startApi, type Api } from "./fixture.ts";

let api: Api;
let session: string;
beforeAll(async () => {
  api = await startApi();
  session = await api.client.session();
});
afterAll(() => api.stop());

const submitPath = () => `/sessions/${session}/executions`;
const syncPath = () => `/executions/sessions/${session}/execute-sync`;
const code = (text: string, more: object = {}) => ({ language: "python", code: text, ...more });

const EXECUTION_FIELDS =
  "id session_id status reason code language timeout exit_code error_message execution_time stdout stderr stdout_truncated stderr_truncated " +
  "stdout_bytes stderr_bytes return_value artifacts metrics env_vars retry_count created_at started_at completed_at";

describe("submitting", () => {
  test("201 at once, with the place of the execution", async () => {
    const { status, body, headers } = await api.client.post(submitPath(), code("sleep 200"));
    expect(status).toBe(201);
    expect(body["status"]).toBe("pending");
    expect(headers.get("Location")).toBe(`/api/v1/executions/${body["id"]}`);
    expect(Object.keys(body).toSorted()).toEqual(EXECUTION_FIELDS.split(" ").toSorted());
  });

  test("wait: 200 when it ended, 202 when not, 422 beyond its bounds", async () => {
    const done = await api.client.post(`${submitPath()}?wait=10`, code('out "x"\nresult {"n":0}'));
    expect(done).toMatchObject({ status: 200, body: { status: "completed", stdout: "x", return_value: { n: 0 } } });
    const late = await api.client.post(`${submitPath()}?wait=0.05`, code("hang"));
    expect(late.status).toBe(202);
    expect(["pending", "running"]).toContain(late.body["status"]);
    expect(late.headers.get("Location")).toBe(`/api/v1/executions/${late.body["id"]}`);
    expect((await api.client.post(`${submitPath()}?wait=0`, code("hang"))).status).toBe(202);
    for (const wait of ["-0.1", "3600.5", "x"])
      expect((await api.client.post(`${submitPath()}?wait=${wait}`, code("x"))).status).toBe(422);
  });

  test("execute: 201 with four fields", async () => {
    const { status, body } = await api.client.post(`/executions/sessions/${session}/execute`, code("x"));
    expect(status).toBe(201);
    expect(Object.keys(body)).toEqual(["execution_id", "session_id", "status", "created_at"]);
    expect(body["status"]).toBe("pending");
  });

  test("execute-sync: 200 in any terminal state, at once whatever poll_interval says", async () => {
    const started = performance.now();
    const failed = await api.client.post(`${syncPath()}?poll_interval=10`, code("exit 4"));
    expect(failed).toMatchObject({ status: 200, body: { status: "failed", exit_code: 4, reason: "exit_code" } });
    expect(performance.now() - started).toBeLessThan(1000);
    for (const query of [
      "poll_interval=0.09",
      "poll_interval=10.1",
      "sync_timeout=9.9",
      "sync_timeout=3601",
      "sync_timeout=x",
    ])
      expect([query, (await api.client.post(`${syncPath()}?${query}`, code("x"))).status]).toEqual([query, 422]);
  });

  test("execute-sync: 408 names the execution, which goes on", async () => {
    const impatient = await startApi({
      change: ({ executions }) => ({
        executions: Object.assign(Object.create(executions), {
          submit: executions.submit.bind(executions),
          ended: (tenant: string, id: string, waitMs: number) => {
            expect(waitMs).toBe(12_000);
            return executions.get(tenant, id);
          },
        }),
      }),
    });
    const id = await impatient.client.session();
    const late = await impatient.client.post(`/executions/sessions/${id}/execute-sync?sync_timeout=12`, code("hang"));
    expect(late).toMatchObject({ status: 408, body: { error: "Request Timeout", code: "sync_timeout" } });
    const named = /exec_\d{14}_[0-9a-f]{8}/.exec(late.body["message"])?.[0];
    expect(late.headers.get("Location")).toBe(`/api/v1/executions/${named}`);
    await impatient.stop();
  });

  test("defaults, and what was sent, reach the executor", async () => {
    await api.client.post(`${submitPath()}?wait=5`, code("result 1"));
    const event = { ünï: ["😀", null, 1.5, { deep: [] }] };
    await api.client.post(
      `${submitPath()}?wait=5`,
      code("result 2", { event, env_vars: { A: "1" }, stdin: "in\0", timeout: 3600 }),
    );
    const [plain, full] = ["result 1", "result 2"].map((text) =>
      api.executor.requests.find((one) => one.code === text),
    );
    expect(plain).toMatchObject({ event: null, env: {}, stdin: "", timeoutMs: 30_000 });
    expect(full).toMatchObject({ event: JSON.stringify(event), env: { A: "1" }, stdin: "in\0", timeoutMs: 3_600_000 });
  });

  test("code of the largest size", async () => {
    const text = `out "x"\n${"#".repeat(1_048_576 - 8)}`;
    expect(text.length).toBe(1_048_576);
    expect((await api.client.post(`${submitPath()}?wait=5`, code(text))).body).toMatchObject({
      status: "completed",
      code: text,
    });
  });

  test("one Idempotency-Key is one execution", async () => {
    const submit = () => api.client.post(submitPath(), code("out 1"), { "Idempotency-Key": "same" });
    const ids = new Set((await Promise.all([submit(), submit(), submit()])).map(({ body }) => body["id"]));
    expect(ids.size).toBe(1);
    expect((await api.client.post(submitPath(), code("x"), { "Idempotency-Key": "x".repeat(256) })).status).toBe(400);
  });

  test("an ended session: 409", async () => {
    const ended = await api.client.session();
    await api.client.post(`/sessions/${ended}/terminate`);
    for (const path of [
      `/sessions/${ended}/executions`,
      `/executions/sessions/${ended}/execute`,
      `/executions/sessions/${ended}/execute-sync`,
    ])
      expect(await api.client.post(path, code("x"))).toMatchObject({ status: 409, body: { code: "session_ended" } });
    for (const path of [
      "/sessions/none/executions",
      "/executions/sessions/none/execute",
      "/executions/sessions/none/execute-sync",
    ])
      expect(await api.client.post(path, code("x"))).toMatchObject({
        status: 404,
        body: { code: "session_not_found" },
      });
  });

  test("a full queue: 429", async () => {
    const busy = await api.client.session();
    await Promise.all(Array.from({ length: 72 }, () => api.client.submit(busy, "hang")));
    const refused = await api.client.post(`/sessions/${busy}/executions`, code("x"));
    expect(refused).toMatchObject({ status: 429, body: { code: "queue_full" } });
    expect(Number(refused.headers.get("Retry-After"))).toBeGreaterThan(0);
  });
});

describe("reading and ending", () => {
  test("one under three paths, many under two", async () => {
    const own = await api.client.session();
    const first = await api.client.run(own, "out 1");
    const second = await api.client.run(own, "out 2");
    for (const suffix of ["", "/status", "/result"])
      expect((await api.client.get(`/executions/${first["id"]}${suffix}`)).body).toEqual(first);
    for (const path of [`/sessions/${own}/executions`, `/executions/sessions/${own}/executions`])
      expect((await api.client.get(path)).body).toEqual({
        items: [second, first],
        total: 2,
        limit: 50,
        offset: 0,
        has_more: false,
      });
  });

  test("cancel ends it; a second time changes nothing", async () => {
    const id = await api.client.submit(session, "hang");
    for await (const event of api.client.events(id)) if (event.data["status"] === "running") break;
    const first = await api.client.post(`/executions/${id}/cancel`);
    expect(first).toMatchObject({ status: 200, body: { status: "cancelled", reason: "cancelled", exit_code: null } });
    expect((await api.client.call("POST", `/executions/${id}/cancel`)).body).toEqual(first.body);
    expect((await api.client.post("/executions/none/cancel")).status).toBe(404);
  });

  test("cancel of what waits for its session's sandbox ends it, and it never runs", async () => {
    const made = Promise.withResolvers<void>();
    let isMade = false;
    const slow = await startApi({
      provisioner: (usual) => ({
        ...usual,
        ensure: (wanted) => made.promise.then(() => usual.ensure(wanted)),
        executorOf: (id) =>
          isMade
            ? usual.executorOf(id)
            : Promise.reject(new AppError("executor_unavailable", "the Pod does not run yet", { retryAfterS: 1 })),
      }),
    });
    const waiting = (await slow.client.post("/sessions", { template_id: "python-basic" })).body["id"] as string;
    const id = await slow.client.submit(waiting, 'out "x"');
    const cancelled = await slow.client.post(`/executions/${id}/cancel`);
    expect(cancelled).toMatchObject({ status: 200, body: { status: "cancelled", exit_code: null } });
    isMade = true;
    made.resolve();
    const next = await slow.client.post(`/sessions/${waiting}/executions?wait=10`, code('out "next"'));
    expect(next.body["stdout"]).toBe("next");
    expect(slow.executor.requests.map((request) => request.code)).toEqual(['out "next"']);
    expect((await slow.client.get(`/executions/${id}`)).body).toEqual(cancelled.body);
    await slow.stop();
  });

  test("cancel of what is just on its way to its executor ends it there", async () => {
    const sent = Promise.withResolvers<void>();
    const slow = await startApi();
    const execute = slow.executor.execute.bind(slow.executor);
    slow.executor.execute = (...all) => sent.promise.then(() => execute(...all));
    const id = await slow.client.submit(await slow.client.session(), "hang");
    expect((await slow.client.post(`/executions/${id}/cancel`)).body["status"]).toBe("cancelled");
    sent.resolve();
    for (const end = performance.now() + 5000; slow.executor.journals.get(id)?.ended !== true; await Bun.sleep(5))
      expect(performance.now()).toBeLessThan(end);
    await slow.stop();
  });

  test("cancel that finds the sandbox made meanwhile tells its executor", async () => {
    let isMade = false;
    const told: string[] = [];
    const slow = await startApi({
      provisioner: (usual) => ({
        ...usual,
        executorOf: (id) => {
          if (isMade) return usual.executorOf(id);
          isMade = true;
          return Promise.reject(new AppError("session_not_found", "there is no Pod"));
        },
      }),
    });
    const inSession = await slow.client.session();
    const sent = Promise.withResolvers<void>();
    const execute = slow.executor.execute.bind(slow.executor);
    slow.executor.execute = (...all) => sent.promise.then(() => execute(...all));
    const cancel = slow.executor.cancel.bind(slow.executor);
    slow.executor.cancel = (id) => {
      told.push(id);
      return cancel(id);
    };
    const id = await slow.client.submit(inSession, "hang");
    isMade = false;
    expect((await slow.client.post(`/executions/${id}/cancel`)).body["status"]).toBe("cancelled");
    expect(told).toEqual([id]);
    sent.resolve();
    await slow.stop();
  });

  test("cancel reaches an executor that is there in a moment", async () => {
    let failures = 0;
    const slow = await startApi({
      provisioner: (usual) => ({
        ...usual,
        executorOf: (id) =>
          failures-- > 0
            ? Promise.reject(new AppError("executor_unavailable", "the Pod does not run yet", { retryAfterS: 1 }))
            : usual.executorOf(id),
      }),
    });
    const id = await slow.client.submit(await slow.client.session(), "hang");
    for await (const event of slow.client.events(id)) if (event.data["status"] === "running") break;
    failures = 2;
    expect(await slow.client.post(`/executions/${id}/cancel`)).toMatchObject({
      status: 200,
      body: { status: "cancelled" },
    });
    await slow.stop();
  });
});
