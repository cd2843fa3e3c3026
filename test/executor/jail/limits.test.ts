import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { findCgroups } from "../../../src/executor/jail/cgroup-roots.ts";
import { MEBIBYTE, TestJail, type TestSandbox } from "./fixture.ts";

const SIGKILL = 9;
const HOG = "x = []\nwhile True: x.append(bytearray(b'x' * (8 << 20)))";
const FORKS = `
import os, time
n = 0
while n < 500:
    try:
        if os.fork() == 0: time.sleep(5); os._exit(0)
        n += 1
    except OSError as e: print(n, e.errno); break`;

const hasCgroups = findCgroups().version !== 0;

describe.skipIf(!hasCgroups)("limits held by control groups", () => {
  let jail: TestJail;
  let sandbox: TestSandbox;
  beforeAll(async () => {
    jail = await TestJail.open();
    sandbox = await jail.start("one", { memoryBytes: 128 * MEBIBYTE });
  });
  afterAll(() => jail.close());

  test("memory: the greedy program is killed, counted, and the sandbox lives on", async () => {
    const before = sandbox.init.memoryKills();
    expect((await sandbox.python(HOG)).status).toBe(SIGKILL);
    expect(sandbox.init.memoryKills()).toBe(before + 1);
    expect((await sandbox.sh("echo alive")).stdout).toBe("alive\n");
  });

  test("memory: also what is in /tmp, /dev/shm and anonymous files", async () => {
    const files =
      "import os\nfor i in range(8):\n fd = os.memfd_create('x')\n for _ in range(32): os.write(fd, b'x' * (1 << 20))";
    expect((await sandbox.python(files)).status).toBe(SIGKILL);
    expect((await sandbox.sh("head -c 100M /dev/zero > /tmp/big")).status).not.toBe(0);
    expect((await sandbox.sh("rm -f /tmp/big; echo alive")).stdout).toBe("alive\n");
  });

  test("processes: a fork is refused and counted", async () => {
    const before = sandbox.init.processRefusals();
    const { stdout } = await sandbox.python(FORKS);
    expect(Number(stdout.split(" ")[0])).toBeLessThan(64);
    expect(stdout).toEndWith(" 11\n");
    expect(sandbox.init.processRefusals()).toBeGreaterThan(before);
  });

  test("CPU: a quarter of a core is a quarter of a core", async () => {
    const slow = await jail.start("slow", { cpuCores: 0.25 });
    const code =
      "import time\nbefore = time.process_time()\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass\nprint(time.process_time() - before)";
    const { stdout } = await slow.python(code);
    expect(Number(stdout)).toBeLessThan(0.75);
  });
});

/** As an ordinary user without a group of its own, and as root where none can be written. */
describe("limits held without control groups", () => {
  let jail: TestJail;
  beforeAll(async () => {
    jail = await TestJail.open({ useCgroups: false });
  });
  afterAll(() => jail.close());

  test("memory: the watchdog tells of it, and ends the sandbox when nobody else does", async () => {
    const sandbox = await jail.start("m", { memoryBytes: 128 * MEBIBYTE });
    const code = "import time\nx = []\nwhile True: x.append(bytearray(b'x' * (2 << 20))); time.sleep(0.005)";
    void sandbox.python(code);
    expect(await sandbox.limitPassed).toBe("memory");
    expect(await sandbox.init.exited).not.toBe(0);
  });

  test("memory: also what is in /tmp and in anonymous files", async () => {
    const sandbox = await jail.start("f", { memoryBytes: 96 * MEBIBYTE });
    const code =
      "import os, time\nfd = os.memfd_create('x')\nfor _ in range(60): os.write(fd, b'x' * (1 << 20))\nopen('/tmp/x', 'wb').write(b'x' * (40 << 20))\ntime.sleep(5)";
    void sandbox.python(code);
    expect(await sandbox.limitPassed).toBe("memory");
    await sandbox.end();
  });

  test("a program that shares its memory with children is not charged twice for it", async () => {
    const sandbox = await jail.start("s", { memoryBytes: 256 * MEBIBYTE });
    const code =
      "import os, time\nx = bytearray(b'x' * (80 << 20))\nfor _ in range(6):\n if os.fork() == 0: time.sleep(1); os._exit(0)\nfor _ in range(6): os.wait()\nprint('done')";
    expect((await sandbox.python(code)).stdout).toBe("done\n");
    expect(sandbox.passed).toEqual([]);
    await sandbox.end();
  });

  test("processes: a fork is refused, and those of another sandbox don't count", async () => {
    const [one, other] = [await jail.start("p1"), await jail.start("p2")];
    const [first, second] = await Promise.all([one.python(FORKS), other.python(FORKS)]);
    for (const { stdout } of [first, second]) {
      expect(Number(stdout.split(" ")[0])).toBeGreaterThan(40);
      expect(Number(stdout.split(" ")[0])).toBeLessThan(64);
    }
    await Promise.all([one.end(), other.end()]);
  });

  test("checks say what is weaker and what helps", async () => {
    const checks = await jail.jail.checks();
    const memory = checks.find((check) => check.name === "memory limit");
    expect(memory).toMatchObject({
      ok: true,
      found: expect.stringContaining("weaker"),
      remedy: expect.stringContaining("root"),
    });
  });
});

describe("limits of every sandbox", () => {
  let jail: TestJail;
  beforeAll(async () => {
    jail = await TestJail.open();
  });
  afterAll(() => jail.close());

  test("no core dumps, a bounded number of open files, none larger than the disk limit", async () => {
    const sandbox = await jail.start("r");
    const { stdout } = await sandbox.sh("ulimit -Hc; ulimit -Hn; ulimit -Hf");
    expect(stdout).toBe(`0\n4096\n${(64 * MEBIBYTE) / 1024}\n`);
    await sandbox.end();
  });
});
