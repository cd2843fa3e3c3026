import { afterEach, beforeEach, expect, test } from "bun:test";
import { startApi, type Api } from "../http/fixture.ts";

let api: Api;
let shiftMs = 0;
let stuck = "";
const unstuck = Promise.withResolvers<void>();
beforeEach(async () => {
  api = await startApi({
    clock: { now: () => new Date(Date.now() + shiftMs) },
    provisioner: (usual) => ({
      ...usual,
      release: async (id, options) => {
        if (id === stuck) await unstuck.promise;
        await usual.release(id, options);
      },
    }),
  });
});
afterEach(() => {
  unstuck.resolve();
  return api.stop();
});

test("an executor that lets one session's step wait for ever does so with no other's", async () => {
  stuck = await api.client.session({ timeout: 60 });
  const other = await api.client.session({ timeout: 300 });
  shiftMs = 100_000;
  await api.scheduler.resync();
  shiftMs = 400_000;
  const before = performance.now();
  await api.scheduler.resync();
  expect(performance.now() - before).toBeLessThan(2000);
  expect((await api.client.get(`/sessions/${other}`)).body).toMatchObject({ status: "terminated" });
}, 20_000);
