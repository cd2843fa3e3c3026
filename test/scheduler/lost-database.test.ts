import { afterEach, beforeEach, expect, test } from "bun:test";
import { setImmediate } from "node:timers/promises";
import { AppError } from "../../src/errors.ts";
import { startApi, type Api } from "../http/fixture.ts";

let api: Api;
let isAway = false;
let shiftMs = 0;
const unhandled: unknown[] = [];
const note = (error: unknown): void => void unhandled.push(error);

/** Fails as a database does that can't be reached, while it is away. */
function present<T>(answer: () => Promise<T>): Promise<T> {
  return isAway ? Promise.reject(new AppError("store_unavailable", "the database is away")) : answer();
}

beforeEach(async () => {
  process.on("unhandledRejection", note);
  api = await startApi({
    clock: { now: () => new Date(Date.now() + shiftMs) },
    sql: (usual) => ({
      dialect: usual.dialect,
      maxTextBytes: usual.maxTextBytes,
      query: (sql, values) => present(() => usual.query(sql, values)),
      run: (sql, values) => present(() => usual.run(sql, values)),
      batch: (statements) => present(() => usual.batch(statements)),
      close: () => usual.close(),
    }),
    provisioner: (usual) => ({
      ...usual,
      ensure: async (session) => {
        const made = await usual.ensure(session);
        isAway = shiftMs === 0;
        return made;
      },
    }),
  });
});
afterEach(async () => {
  isAway = false;
  await api.stop();
  process.off("unhandledRejection", note);
});

test("a database that goes away while a sandbox is made leaves its session to the next resync, and harms nobody", async () => {
  const created = await api.client.post("/sessions", { template_id: "python-basic" });
  expect(created.status).toBe(201);
  while (!api.logged.some(({ event }) => event === "session.step_failed")) await setImmediate();
  // What nobody awaits is told once the microtasks are done.
  await setImmediate();
  await setImmediate();
  expect(unhandled).toEqual([]);
  isAway = false;
  // The lease on its row has ended by then.
  shiftMs = 20_000;
  await api.scheduler.resync();
  expect((await api.client.get(`/sessions/${String(created.body["id"])}`)).body).toMatchObject({ status: "running" });
});
