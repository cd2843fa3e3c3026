import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { DiskMeter } from "../../../src/executor/jail/disk-meter.ts";
import type { Usage } from "../../../src/executor/jail/usage.ts";
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
    passed: () => false,
    failed: (error) => failures.push(error),
    overrun: () => {},
  });
  await again.promise;
  watchdog.stop();
  expect(failures).toEqual([fault]);
});

/** Scans find these numbers of MiB, one after the other, and then the last for ever. */
class ScriptedMeter extends DiskMeter {
  readonly #found: number[];
  readonly #done: () => void;

  constructor(found: number[], done: () => void) {
    super(dir, LIMITS.diskBytes, () => []);
    this.#found = found;
    this.#done = done;
  }

  override couldBeOver(): boolean {
    return true;
  }

  override look(): Promise<Usage> {
    const mebibytes = this.#found.length > 1 ? this.#found.shift() : this.#found[0];
    if (this.#found.length === 1) this.#done();
    return Promise.resolve({ bytes: (mebibytes ?? 0) * 1024 ** 2, files: 1 });
  }
}

/** How often executions, of which there always are some or none, and the sandbox were to be ended while scans found all of this. */
async function ends(found: number[], hasExecutions = true): Promise<{ executions: number; sandbox: number }> {
  const over = Promise.withResolvers<void>();
  const counts = { executions: 0, sandbox: 0 };
  let activity = 0;
  const watchdog = new Watchdog({
    disk: new ScriptedMeter([...found, 0, 0], over.resolve),
    limits: LIMITS,
    activity: () => ++activity,
    countedFrom: null,
    passed: () => {
      counts.executions++;
      return hasExecutions;
    },
    failed: over.reject,
    overrun: () => void counts.sandbox++,
  });
  await over.promise;
  watchdog.stop();
  return counts;
}

async function timesPassed(found: number[]): Promise<number> {
  return (await ends(found)).executions;
}

test("who empties a workspace is not blamed for what was written before it was looked at", async () => {
  expect(await timesPassed([0.5, 3, 2.5, 2, 1.5])).toBe(0);
  expect(await timesPassed([0.5, 3, 3.5])).toBe(1);
  expect(await timesPassed([0.5, 3, 3])).toBe(1);
});

test("who removes a little now and then is blamed in the end", async () => {
  const growing = Array.from({ length: 4 }, (_, round) => [3 + round, 2.9 + round]).flat();
  expect(await timesPassed([0.5, ...growing])).toBe(1);
});

test("a sandbox is ended when the limit is passed on and on without executions, and not for one that comes later", async () => {
  const growing = Array.from({ length: 16 }, (_, index) => 3 + index);
  const [idle, busy] = await Promise.all([ends(growing, false), ends(growing)]);
  expect(idle.sandbox).toBeGreaterThan(0);
  expect(busy.executions).toBeGreaterThan(3);
  expect(busy.sandbox).toBe(0);
});
