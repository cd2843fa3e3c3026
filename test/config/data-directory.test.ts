import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../../src/config.ts";
import { lockDataDirectory, openDataDirectory } from "../../src/data-directory.ts";

let parent: string;
let path: string;
const children: Bun.Subprocess[] = [];
beforeEach(async () => {
  parent = await mkdtemp("/tmp/data-directory-");
  await chmod(parent, 0o755);
  path = join(parent, "data");
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
  await rm(parent, { recursive: true });
});

const open = (at = path) => openDataDirectory(at);
const modeOf = async (file: string) => (await stat(file)).mode & 0o7777;

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return "accepted";
}

/** Another process that opens and locks the directory, says how that went, and stays. */
async function contender(user?: number): Promise<{ child: Bun.Subprocess; said: string }> {
  const source = `
    const { openDataDirectory, lockDataDirectory } = await import("${import.meta.dir}/../../src/data-directory.ts");
    const user = ${user ?? null};
    if (user !== null) {
      process.setgroups([]);
      process.setuid(user);
    }
    try {
      globalThis.held = lockDataDirectory(openDataDirectory("${path}"));
      console.log("held");
      setInterval(() => {}, 1000);
    } catch (error) {
      console.log(error.message);
    }`;
  const child = Bun.spawn([process.execPath, "-e", source], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  children.push(child);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value } = await reader.read();
  return { child, said: (value ?? "").trim() };
}

describe("opening", () => {
  test("makes everything with its mode, and again changes nothing", async () => {
    for (let i = 0; i < 2; i++) {
      const directory = open();
      expect(await modeOf(path)).toBe(0o711);
      expect(await modeOf(directory.workspaces)).toBe(0o711);
      for (const secret of [directory.objects, directory.journals, directory.executor])
        expect(await modeOf(secret)).toBe(0o700);
    }
  });

  test("tightens modes that were changed", async () => {
    const { journals } = open();
    await chmod(journals, 0o777);
    await chmod(path, 0o777);
    open();
    expect(await modeOf(journals)).toBe(0o700);
    expect(await modeOf(path)).toBe(0o711);
  });

  test("leaves alone a directory that is something else", async () => {
    await mkdir(path);
    await chmod(path, 0o750);
    await writeFile(join(path, "thesis.tex"), "");
    expect(refusal(() => open())).toMatch(new RegExp(`^DATA_DIR=${path} is not empty[^\n]*$`));
    expect(await modeOf(path)).toBe(0o750);
    expect(await readdir(path)).toEqual(["thesis.tex"]);
  });

  test("takes an empty volume", async () => {
    await mkdir(join(path, "lost+found"), { recursive: true });
    expect(refusal(() => open())).toBe("accepted");
  });

  test("says why it can't, in one line", async () => {
    await writeFile(path, "");
    expect(refusal(() => open())).toBe(`DATA_DIR=${path} can't be written: not a directory`);
    expect(refusal(() => open("/proc/none"))).toMatch(/^DATA_DIR=\/proc\/none can't be written: [^\n]+$/);
    const long = join(parent, "x".repeat(100));
    expect(refusal(() => open(long))).toMatch(/^DATA_DIR=.* is too long[^\n]*$/);
  });

  test.if(process.getuid?.() === 0)("says so when another user may not write it", async () => {
    open();
    expect((await contender(65_534)).said).toBe(`DATA_DIR=${path} can't be written: permission denied`);
  });

  test("takes a place that other users can't pass through", async () => {
    await chmod(parent, 0o700);
    expect(refusal(() => open())).toBe("accepted");
  });
});

describe("the lock", () => {
  test("is refused to a second process, in one line that names the first", async () => {
    const lock = lockDataDirectory(open());
    const { said } = await contender();
    expect(said).toContain(`DATA_DIR=${path} is in use`);
    expect(said).toContain(`pid ${process.pid}`);
    expect(said).not.toContain("\n");
    lock.release();
    expect((await contender()).said).toBe("held");
  });

  test("is refused a second time in the same process, which keeps the first", async () => {
    const lock = lockDataDirectory(open());
    expect(refusal(() => lockDataDirectory(open()))).toContain(`pid ${process.pid}`);
    expect((await contender()).said).toContain("is in use");
    lock.release();
  });

  test("is free again when its process was killed", async () => {
    const first = await contender();
    expect(first.said).toBe("held");
    expect(refusal(() => lockDataDirectory(open()))).toContain(`pid ${first.child.pid}`);
    first.child.kill("SIGKILL");
    await first.child.exited;
    lockDataDirectory(open()).release();
  });

  test("is not passed on to a child that outlives its process", async () => {
    const lock = lockDataDirectory(open());
    const child = Bun.spawn(["sleep", "60"], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    children.push(child);
    lock.release();
    expect((await contender()).said).toBe("held");
  });
});
