import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { AppError } from "../../../src/errors.ts";
import { findCgroups } from "../../../src/executor/jail/cgroup-roots.ts";
import { groupParents } from "../../../src/executor/jail/cgroups.ts";
import { descendants } from "../../../src/executor/jail/process-tree.ts";
import { IS_ROOT, TestJail } from "./fixture.ts";

const MARK = `sleep 91.${process.pid}`;

/** Command lines of processes that carry the mark, anywhere on the host. */
function marked(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      } catch {
        return "";
      }
    })
    .filter((line) => line === MARK);
}

/** A program that was started in the background is not there at once. */
async function untilMarked(count: number): Promise<void> {
  while (marked().length !== count) await Bun.sleep(1);
}

/** Directories of the control groups of this data directory's sandboxes. */
function groups(dataDir: string): string[] {
  const parents = groupParents(findCgroups(), `sandbox-${Bun.hash(dataDir).toString(16)}`);
  return parents.filter(existsSync).flatMap((parent) =>
    readdirSync(parent, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(parent, entry.name)),
  );
}

describe("the end of a sandbox", () => {
  let jail: TestJail;
  beforeAll(async () => {
    jail = await TestJail.open();
  });
  afterAll(() => jail.close());

  test("leaves no process, no control group and no claim; the workspace stays until it is removed", async () => {
    const sandbox = await jail.start("one");
    await sandbox.sh(`(setsid ${MARK} &) ; ${MARK} & echo kept > file`);
    await untilMarked(2);
    sandbox.init.kill();
    await sandbox.init.exited;
    expect(marked()).toEqual([]);
    await Promise.all([sandbox.init.dispose(), sandbox.init.dispose()]);
    expect(groups(jail.dataDir)).toEqual([]);
    expect(readFileSync(join(sandbox.init.workspaceDir, "file"), "utf8")).toBe("kept\n");
    await jail.jail.removeWorkspace("one");
    await jail.jail.removeWorkspace("one");
    expect(existsSync(sandbox.init.workspaceDir)).toBe(false);
  });

  test("comes with the end of its input", async () => {
    const sandbox = await jail.start("eof");
    await sandbox.sh(`${MARK} & echo`);
    await untilMarked(1);
    sandbox.init.stdin.end();
    expect(await sandbox.init.exited).toBe(0);
    expect(marked()).toEqual([]);
    await sandbox.init.dispose();
  });

  test("a fork bomb doesn't outrun", async () => {
    const sandbox = await jail.start("bomb");
    void sandbox.sh("f() { f | f & }; f; while :; do :; done");
    while (descendants(sandbox.init.pid).length < 12) await Bun.sleep(1);
    const pids = descendants(sandbox.init.pid);
    sandbox.init.kill();
    await sandbox.init.exited;
    expect(pids.filter((pid) => existsSync(`/proc/${pid}/root/.sandbox`))).toEqual([]);
    await sandbox.init.dispose();
    expect(groups(jail.dataDir)).toEqual([]);
  });

  test("kill before it is ready is an end like any other", async () => {
    const spec = { imageUrl: "sandbox-template-python-basic", runtimeType: "python3.11", env: {}, maxRunning: 1 };
    const limits = { cpuCores: 1, memoryBytes: 1 << 28, diskBytes: 1 << 24, maxProcesses: 32 };
    const init = await jail.jail.start(
      "early",
      { ...spec, limits },
      { limitPassed: () => false, lookFailed: () => {} },
    );
    init.kill();
    await init.dispose();
    expect(groups(jail.dataDir)).toEqual([]);
  });

  test("a workspace with closed directories and endless paths is removed", async () => {
    const sandbox = await jail.start("odd");
    await sandbox.sh(
      "mkdir -p a/b; touch a/b/c; chmod 000 a/b; chmod 500 a; for i in {1..300}; do mkdir d; cd d; done",
    );
    await sandbox.end();
    await jail.jail.removeWorkspace("odd");
    expect(existsSync(sandbox.init.workspaceDir)).toBe(false);
  });

  test("the next one of the same id finds its files, and they are its own", async () => {
    const first = await jail.start("again");
    await first.sh("mkdir dir; echo kept > dir/file");
    await first.end();
    const second = await jail.start("again");
    expect((await second.sh("cat dir/file; echo more >> dir/file; stat -c %U dir/file")).stdout).toBe(
      "kept\nsandbox\n",
    );
    await second.end();
  });
});

test.skipIf(!IS_ROOT)(
  "a data directory below a closed one serves as well, and what is bound shows nothing else",
  async () => {
    const closed = mkdtempSync("/tmp/sandbox-closed-");
    const jail = await TestJail.open({ dataDir: join(closed, "data") });
    try {
      const sandbox = await jail.start("one");
      const said = await sandbox.sh("echo in > file; cat file; ls -A /.sandbox/bun /etc/passwd; ls /run; id -un");
      expect(said.stdout).toBe("in\n/.sandbox/bun\n/etc/passwd\nsandbox\n");
      expect(readFileSync(join(sandbox.init.workspaceDir, "file"), "utf8")).toBe("in\n");
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain("sandbox-stage");
    } finally {
      await jail.close();
      rmSync(closed, { recursive: true, force: true });
    }
  },
);

describe("what can't be started", () => {
  let jail: TestJail;
  beforeAll(async () => {
    jail = await TestJail.open();
  });
  afterAll(() => jail.close());

  test("an image that is not here leaves nothing", async () => {
    const refused = (await jail.start("x", {}, "nobody/has:this").catch((error: unknown) => error)) as AppError;
    expect(refused.code).toBe("image_unknown");
    expect(existsSync(join(jail.dataDir, "workspaces/x"))).toBe(false);
  });

  test("limits that the kernel or the launcher refuses leave nothing", async () => {
    for (const limits of [{ maxProcesses: -7 }, { diskBytes: Number.NaN }]) {
      const refused: unknown = await jail.start("y", limits).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(Error);
      expect(groups(jail.dataDir)).toEqual([]);
    }
  });
});

describe("a host that can't isolate", () => {
  const before = process.env["PATH"];
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync("/tmp/sandbox-bin-");
  });
  afterEach(() => {
    process.env["PATH"] = before;
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  function fakeBwrap(script: string): void {
    const path = join(dir, "bwrap");
    writeFileSync(path, `#!/bin/sh\nif [ "$1" = --version ]; then echo "bubblewrap 0.8.0"; exit; fi\n${script}\n`);
    chmodSync(path, 0o755);
    chmodSync(dir, 0o755);
    process.env["PATH"] = `${dir}:${before}`;
  }

  async function refusal(): Promise<string> {
    const dataDir = mkdtempSync("/tmp/sandbox-jail-");
    try {
      const jail = await TestJail.open({ dataDir });
      await jail.close();
      return "";
    } catch (error) {
      return (error as Error).message;
    } finally {
      rmSync(dataDir, { recursive: true, force: true });
    }
  }

  test("says what is missing", async () => {
    process.env["PATH"] = "/nowhere";
    expect(await refusal()).toContain("install the package bubblewrap");
  });

  test("says what forbids it and what helps", async () => {
    fakeBwrap("echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1");
    expect(await refusal()).toContain("kernel.apparmor_restrict_unprivileged_userns=0");
    fakeBwrap(
      "echo 'bwrap: No permissions to create new namespace, likely because the kernel does not allow it' >&2; exit 1",
    );
    expect(await refusal()).toContain("user.max_user_namespaces");
  });

  test("does not start when a program would not be isolated, whatever bwrap says", async () => {
    fakeBwrap("printf 'READY'; exec sleep 30");
    expect(await refusal()).toMatch(
      /sandboxes are not isolated here: namespaces: shared with the host: user, mnt, pid/,
    );
  });
});

describe("an executor that was killed", () => {
  test("leaves nothing that the next one does not clean up", async () => {
    const dataDir = mkdtempSync("/tmp/sandbox-jail-");
    const code = `
      import { TestJail } from "${import.meta.dir}/fixture.ts";
      const jail = await TestJail.open({ dataDir: ${JSON.stringify(dataDir)} });
      const sandbox = await jail.start("one");
      await sandbox.sh("echo kept > file; chmod 711 .; setsid ${MARK} & echo");
      console.log("up");
      await new Promise(() => {});`;
    const executor = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe", stderr: "ignore" });
    await executor.stdout.getReader().read();
    await untilMarked(1);
    const before = lstatSync(join(dataDir, "workspaces/one")).uid;
    executor.kill("SIGKILL");
    await executor.exited;
    const jail = await TestJail.open({ dataDir });
    await untilMarked(0);
    expect(groups(dataDir)).toEqual([]);
    const other = await jail.start("other");
    expect(lstatSync(other.init.workspaceDir).uid === before).toBe(!IS_ROOT);
    const again = await jail.start("one");
    expect((await again.sh("cat file")).stdout).toBe("kept\n");
    expect(lstatSync(again.init.workspaceDir).uid).toBe(before);
    await jail.close();
  }, 20_000);
});
