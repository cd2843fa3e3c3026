import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createLog } from "../../src/log.ts";
import { Retention } from "../../src/scheduler/retention.ts";
import { startApi, type Api } from "../http/fixture.ts";

const HOUR_S = 3600;

describe("the clock jumps", () => {
  let api: Api;
  let shiftS = 0;
  beforeEach(async () => {
    shiftS = 0;
    api = await startApi({ clock: { now: () => new Date(Date.now() + shiftS * 1000) } });
  });
  afterEach(() => api.stop());

  async function jump(seconds: number): Promise<void> {
    shiftS += seconds;
    await api.scheduler.resync();
  }
  const statusOf = async (path: string): Promise<unknown> => (await api.client.get(path)).body["status"];

  test("ahead: what runs goes on in its session, and what is idle for as long as the clock says ends", async () => {
    const [busy, idle] = [await api.client.session({ timeout: 300 }), await api.client.session({ timeout: 300 })];
    const execution = await api.client.submit(busy, 'out "a"\nhang', { timeout: 3600 });
    for await (const event of api.client.events(execution)) if (event.type === "stdout") break;
    await jump(2 * HOUR_S);
    expect(await statusOf(`/sessions/${busy}`)).toBe("running");
    expect(await statusOf(`/executions/${execution}`)).toBe("running");
    expect(await statusOf(`/sessions/${idle}`)).toBe("terminated");
    const { body } = await api.client.post(`/executions/${execution}/cancel`);
    expect(body["status"]).toBe("cancelled");
    expect((await api.client.run(busy, 'out "b"'))["stdout"]).toBe("b");
    await jump(301);
    expect(await statusOf(`/sessions/${busy}`)).toBe("terminated");
  });

  test("back: nothing ends early, and an idle session does not live for that time again", async () => {
    const [idle, used] = [await api.client.session({ timeout: 300 }), await api.client.session({ timeout: 300 })];
    await jump(-2 * HOUR_S);
    expect(await statusOf(`/sessions/${idle}`)).toBe("running");
    await jump(200);
    expect((await api.client.run(used, 'out "x"'))["stdout"]).toBe("x");
    await jump(101);
    expect(await statusOf(`/sessions/${idle}`)).toBe("terminated");
    expect(await statusOf(`/sessions/${used}`)).toBe("running");
    await jump(201);
    expect(await statusOf(`/sessions/${used}`)).toBe("terminated");
  });

  test("back and ahead again: an execution that was submitted between ends as it should", async () => {
    const session = await api.client.session({ timeout: 3600 });
    await jump(-HOUR_S);
    const run = await api.client.run(session, 'out "x"\nsleep 5');
    await jump(HOUR_S);
    expect(run).toMatchObject({ status: "completed", stdout: "x" });
    expect(run["execution_time"]).toBeLessThan(10);
    expect((await api.client.get(`/sessions/${session}/executions`)).body["total"]).toBe(1);
  });
});

describe("retention", () => {
  const DAY_MS = 24 * 3600_000;

  test("believes a clock that has jumped a day later, and no earlier", async () => {
    let nowMs = Date.UTC(2026, 0, 1);
    let elapsedMs = 0;
    const asked: string[] = [];
    const warned: string[] = [];
    const log = createLog({ level: "warn", format: "json", write: (line) => warned.push(line) });
    const walk = (before: string): Promise<{ items: []; next: null }> => {
      asked.push(before);
      return Promise.resolve({ items: [], next: null });
    };
    const retention = new Retention({
      sessions: { endedBefore: walk },
      executions: { endedBefore: walk, delete: () => Promise.resolve() },
      provisioner: { executorOf: () => Promise.reject(new Error("not needed")) },
      clock: { now: () => new Date(nowMs) },
      elapsedMs: () => elapsedMs,
      log,
      sessionMs: 30 * DAY_MS,
      executionMs: null,
      forget: () => Promise.resolve(),
    });
    const pass = async (wallMs: number, reallyMs: number): Promise<number> => {
      nowMs += wallMs;
      elapsedMs += reallyMs;
      asked.length = 0;
      await retention.run(new AbortController().signal);
      return asked.length;
    };
    expect(await pass(3600_000, 3600_000)).toBe(1);
    expect(await pass(7 * DAY_MS, 7 * DAY_MS + 60_000)).toBe(1);
    expect(await pass(400 * DAY_MS, 3600_000)).toBe(0);
    expect(await pass(23 * 3600_000, 23 * 3600_000)).toBe(0);
    // Set right again, which is a jump too.
    expect(await pass(-400 * DAY_MS, 3600_000)).toBe(0);
    expect(await pass(3600_000, 3600_000)).toBe(0);
    expect(await pass(DAY_MS, DAY_MS)).toBe(1);
    expect(warned).toHaveLength(2);
  });
});
