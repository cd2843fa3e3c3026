import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { DiskMeter } from "../../../src/executor/jail/disk-meter.ts";
import { Watchdog } from "../../../src/executor/jail/watchdog.ts";

const LIMITS = { cpuCores: 1, memoryBytes: 1024 ** 2, diskBytes: 1024 ** 2, maxProcesses: 8 };
let dir = "";

beforeEach(() => {
  dir = mkdtempSync("/tmp/sandbox-watchdog-");
});
afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

test("a look that fails is told of, and not the last", async () => {
  const fault = new Error("a fault of this program");
  const again = Promise.withResolvers<void>();
  const failures: unknown[] = [];
  let looks = 0;
  const watchdog = new Watchdog({
    disk: new DiskMeter(dir, LIMITS.diskBytes, () => []),
    limits: LIMITS,
    activity: () => {
      if (++looks === 1) throw fault;
      again.resolve();
      return looks;
    },
    countedFrom: null,
    passed: () => {},
    failed: (error) => failures.push(error),
    overrun: () => {},
  });
  await again.promise;
  watchdog.stop();
  expect(failures).toEqual([fault]);
});
