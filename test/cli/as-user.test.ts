import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chown, mkdtemp, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { command, directoryOf, leftBy, start } from "./command.ts";

/** Any user that has no rights of its own; these tests need root to become it, or are run by one. */
const USER = 54_322;
const wrapper =
  process.getuid?.() === 0 ? ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups", "--"] : [];

let dir: string;
beforeAll(async () => {
  dir = await directoryOf({
    "hello.py": 'print("hello")',
    "closes.py": 'import os\nos.makedirs("closed/below")\nos.chmod("closed", 0)\nprint("closed")',
    "ticks.py": 'import time\nwhile True:\n    print("tick", flush=True)\n    time.sleep(0.02)\n',
  });
  await Bun.spawn(["chmod", "-R", "a+rX", dir]).exited;
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe("sandbox run by an ordinary user leaves nothing", () => {
  test.each([
    ["hello.py", "hello\n"],
    ["closes.py", "closed\n"],
  ])("after %s", async (file, stdout) => {
    const ended = await command(["run", file], { cwd: dir, wrapper });
    expect({ ...ended, pid: 0 }).toEqual({ code: 0, stdout, stderr: "", lines: [], pid: 0 });
    expect(await leftBy(ended.pid)).toEqual([]);
  });

  test("after Ctrl-C twice", async () => {
    const child = start(["run", "ticks.py"], { cwd: dir, wrapper });
    await child.wroteSomething;
    child.kill("SIGINT");
    child.kill("SIGINT");
    expect((await child.ended).code).toBe(130);
    expect(await leftBy(child.pid)).toEqual([]);
  });
});

test("an ordinary user's data directory can be removed once nothing runs on it", async () => {
  const dataDir = await mkdtemp("/tmp/sandbox-test-");
  if (wrapper.length > 0) await chown(dataDir, USER, USER);
  expect(await command(["run", "hello.py"], { cwd: dir, wrapper, env: { DATA_DIR: dataDir } })).toMatchObject({
    code: 0,
  });
  for (const name of ["layers", "runtime", "workspaces"])
    expect([name, (await stat(join(dataDir, name))).mode & 0o700]).toEqual([name, 0o700]);
  await rm(dataDir, { recursive: true });
});
