import { afterEach, beforeEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { ContainerGroup } from "../../../src/executor/jail/container-group.ts";
import { MemoryGuard } from "../../../src/executor/jail/memory-guard.ts";

const MEBIBYTE = 1024 ** 2;
let root: string;

beforeEach(async () => {
  root = await mkdtemp("/tmp/sandbox-group-");
});
afterEach(() => rm(root, { recursive: true }));

function put(files: Record<string, string | number>): void {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, name), `${text}\n`);
}

/** A container of version 2 with 256 MiB that the kernel ends as a whole. */
function group(used: number): ContainerGroup {
  put({ "cgroup.controllers": "memory pids", "memory.max": 256 * MEBIBYTE, "memory.oom.group": 1 });
  use(used);
  return new ContainerGroup(root);
}

function use(anonymous: number, cached = 0): void {
  put({
    "memory.current": anonymous + cached,
    "memory.stat": `anon ${anonymous}\nfile ${cached}\nkernel 1048576\nshmem 0`,
  });
}

test("what the container's group counts", () => {
  put({ "memory.events": "low 0\noom 3\noom_kill 2", "pids.events": "max 7" });
  const one = group(0);
  expect([one.memoryKills(), one.processRefusals(), one.endsAsAWhole]).toEqual([2, 7, true]);
  expect(one.memoryLimit).toBe(256 * MEBIBYTE);
  expect(new ContainerGroup("/nowhere")).toMatchObject({ endsAsAWhole: false, memoryLimit: Number.POSITIVE_INFINITY });
});

test("says that memory is nearly used up, and not for what can be taken back", async () => {
  const passed = Promise.withResolvers<void>();
  let isPassed = false;
  const guard = new MemoryGuard({
    group: group(10 * MEBIBYTE),
    activity: () => performance.now(),
    passed: () => {
      isPassed = true;
      passed.resolve();
    },
  });
  guard.wake();
  use(100 * MEBIBYTE, 150 * MEBIBYTE);
  await Bun.sleep(50);
  expect(isPassed).toBe(false);
  use(230 * MEBIBYTE);
  await passed.promise;
  guard.stop();
});

test("does not look where the kernel ends one process only", async () => {
  put({ "cgroup.controllers": "memory", "memory.max": 256 * MEBIBYTE, "memory.oom.group": 0 });
  use(250 * MEBIBYTE);
  let looked = 0;
  const guard = new MemoryGuard({ group: new ContainerGroup(root), activity: () => ++looked, passed: () => looked++ });
  guard.wake();
  await Bun.sleep(50);
  guard.stop();
  expect(looked).toBe(0);
});
