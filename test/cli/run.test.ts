import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFile, cp, mkdtemp, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { EXECUTABLE } from "../e2e/server.ts";
import { command, directoryOf, leftBy, start, startUnread, type Running } from "./command.ts";

const TICKS = 'import time\nwhile True:\n    print("tick", flush=True)\n    time.sleep(0.02)\n';
const STUBBORN = "import signal, time\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\n" + TICKS;

let dir: string;
beforeAll(async () => {
  dir = await directoryOf({
    "hello.py": 'print("hello")',
    "ticks.py": TICKS,
    "stubborn.py": STUBBORN,
    "bytes.py": "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 1000)",
    "spin.py": "while True: pass",
    "exit.py": 'import sys\nopen("made.bin", "wb").write(bytes([0, 255]))\nsys.exit(3)',
    "raise.py": 'print("before")\nraise ValueError("no")',
    "memory.py": "bytearray(2**31)",
    "handler.py": 'def handler(event): return {"got": event}',
    "stdin.py": "import sys\nprint(sys.stdin.read().upper())",
    "hello.js": "console.log('js')",
    "hello.ts": "const x: string = 'ts'; console.log(x)",
    "hello.sh": "echo sh $NAME",
    script: "#!/usr/bin/env python3\nprint('by its first line')",
    puzzle: "what is it",
  });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const run = (...args: string[]) => command(["run", ...args], { cwd: dir });

/** Starts a run and resolves when its program has written something. */
async function running(file: string): Promise<Running> {
  const started = start(["run", file], { cwd: dir });
  await started.wroteSomething;
  return started;
}

describe("a service of its own", () => {
  test("serves an executable that was copied alone to an empty directory, and leaves nothing", async () => {
    const alone = await mkdtemp("/tmp/sandbox-alone-");
    await copyFile(EXECUTABLE, join(alone, "sandbox"));
    const options = { executable: join(alone, "sandbox"), cwd: alone };
    const { code, stdout, stderr, pid } = await command(["run", join(dir, "hello.py")], options);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "hello\n", stderr: "" });
    expect(await leftBy(pid)).toEqual([]);
    await rm(alone, { recursive: true });
  });

  test("is made from source as well, where nothing was built", async () => {
    const root = join(import.meta.dir, "../..");
    const copy = await mkdtemp("/tmp/sandbox-source-");
    await cp(join(root, "src"), join(copy, "src"), { recursive: true });
    await copyFile(join(root, "package.json"), join(copy, "package.json"));
    await symlink(join(root, "node_modules"), join(copy, "node_modules"));
    const options = { executable: process.execPath, cwd: copy };
    const { code, stdout, stderr } = await command(["src/main.ts", "run", join(dir, "hello.py")], options);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "hello\n", stderr: "" });
    await rm(copy, { recursive: true });
  });

  test("shows output as it comes", async () => {
    const endless = await running("ticks.py");
    endless.kill("SIGINT");
    expect((await endless.ended).stdout).toStartWith("tick\n");
  });

  test("shows bytes exactly", async () => {
    const child = startUnread(["run", "bytes.py"], { cwd: dir });
    const bytes = new Uint8Array(await new Response(child.stdout).arrayBuffer());
    expect(bytes).toEqual(Uint8Array.from({ length: 256_000 }, (_, index) => index % 256));
  });

  test("reads a table in the workspace, writes another and hands it over", async () => {
    const examples = join(import.meta.dir, "../examples");
    const { code, stdout } = await run(
      ...["--upload", join(examples, "sales.csv"), "--download", "totals.csv", join(examples, "sales.py")],
    );
    expect(code).toBe(0);
    expect(stdout).toContain("wrote totals.csv");
    expect(await Bun.file(join(dir, "totals.csv")).text()).toContain("north,140.0");
  });

  test("does not go through a proxy", async () => {
    const proxy = { HTTP_PROXY: "http://127.0.0.1:1", http_proxy: "http://127.0.0.1:1" };
    expect((await command(["run", "hello.py"], { cwd: dir, env: proxy })).stdout).toBe("hello\n");
  });

  test("keeps what a set DATA_DIR has for the next run", async () => {
    const data = await mkdtemp("/tmp/sandbox-test-");
    const options = { cwd: dir, env: { DATA_DIR: data } };
    const first = await command(["run", "--keep", "exit.py"], options);
    const session = /session (\S+) is kept/.exec(first.stderr)?.[1] ?? "";
    const second = await command(["run", "--session", session, "--download", "made.bin", "hello.py"], options);
    expect(second.stdout).toBe("hello\n");
    expect(await Bun.file(join(dir, "made.bin")).bytes()).toEqual(new Uint8Array([0, 255]));
    await rm(data, { recursive: true });
  });

  test("says what is missing when it can't start", async () => {
    const { code, lines, pid } = await command(["run", "hello.py"], { cwd: dir, env: { PATH: "/nowhere" } });
    expect({ code, lines: lines.length }).toEqual({ code: 125, lines: 1 });
    expect(lines[0]).toContain("bubblewrap");
    expect(await leftBy(pid)).toEqual([]);
  });
});

describe("the language", () => {
  test.each([
    ["hello.py", "hello\n"],
    ["hello.js", "js\n"],
    ["hello.ts", "ts\n"],
    ["script", "by its first line\n"],
  ])("of %s is told", async (file, stdout) => expect((await run(file)).stdout).toBe(stdout));

  test("that can't be told is asked for", async () => {
    const { code, lines } = await run("puzzle");
    expect({ code, lines: lines.length }).toEqual({ code: 2, lines: 1 });
    expect(lines[0]).toContain("--language");
  });
});

describe("what a program gets", () => {
  test("its variables, also when it is read from standard input", async () => {
    const options = { cwd: dir, stdin: "echo sh $NAME" };
    const { stdout } = await command(["run", "--language", "shell", "--env", "NAME=a b", "-"], options);
    expect(stdout).toBe("sh a b\n");
  });

  test("standard input, when asked for", async () => {
    expect((await command(["run", "--stdin", "stdin.py"], { cwd: dir, stdin: "Ärger" })).stdout).toBe("ÄRGER\n");
    expect((await command(["run", "stdin.py"], { cwd: dir, stdin: "unseen" })).stdout).toBe("\n");
  });

  test("an event, whose result is said on stderr", async () => {
    const { code, stdout, lines } = await run("--event", '{"a":[1]}', "handler.py");
    expect({ code, stdout, lines }).toEqual({
      code: 0,
      stdout: "",
      lines: ['sandbox: handler returned {"got":{"a":[1]}}'],
    });
    const long = await run("--event", ' {"ü": 12345678901234567890}\n', "handler.py");
    expect(long.lines).toEqual(['sandbox: handler returned {"got":{"ü":12345678901234567890}}']);
  });
});

describe("the exit code", () => {
  test("is the program's own, also when a download fails", async () => {
    const { code, lines } = await run("--download", "nothing.txt", "--download", "made.bin", "exit.py");
    expect({ code, lines: lines.length }).toEqual({ code: 3, lines: 1 });
    expect(lines[0]).toContain("nothing.txt was not downloaded");
    expect(await Bun.file(join(dir, "made.bin")).bytes()).toEqual(new Uint8Array([0, 255]));
  });

  test("is 1 when only a download failed", async () => {
    expect((await run("--download", "nothing.txt", "hello.py")).code).toBe(1);
  });

  test("tells an exception, and the traceback is the program's own", async () => {
    const { code, stdout, lines } = await run("raise.py");
    expect({ code, stdout, last: lines.at(-1) }).toEqual({ code: 1, stdout: "before\n", last: "ValueError: no" });
  });

  test("tells the time limit", async () => {
    const { code, lines } = await run("--timeout", "1", "spin.py");
    expect({ code, lines: lines.length }).toEqual({ code: 124, lines: 1 });
    expect(lines[0]).toContain("time limit of 1 s");
  });

  test("tells the memory limit", async () => {
    const { code, lines } = await run("memory.py");
    expect(code).not.toBe(0);
    expect(lines.at(-1)).toContain("memory");
  });
});

describe("Ctrl-C", () => {
  test("cancels a program that will not have it", async () => {
    const child = await running("stubborn.py");
    child.kill("SIGINT");
    const { code, stderr } = await child.ended;
    expect(code).toBe(130);
    expect(stderr).toContain("Ctrl-C again leaves at once");
    expect(await leftBy(child.pid)).toEqual([]);
  });

  test("twice leaves at once, and nothing behind", async () => {
    const child = await running("stubborn.py");
    child.kill("SIGINT");
    child.kill("SIGINT");
    expect((await child.ended).code).toBe(130);
    expect(await leftBy(child.pid)).toEqual([]);
  });

  test.each([20, 50, 80, 120, 180])("after %i ms leaves nothing behind", async (ms) => {
    const child = start(["run", "ticks.py"], { cwd: dir });
    const timer = setTimeout(() => child.kill("SIGINT"), ms);
    const { code, pid } = await child.ended;
    clearTimeout(timer);
    expect(code).toBe(130);
    expect(await leftBy(pid)).toEqual([]);
  });
});

describe("others that leave", () => {
  test("a reader that goes away ends the program", async () => {
    const child = startUnread(["run", "ticks.py"], { cwd: dir });
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    expect(await child.exited).toBe(141);
    expect(await new Response(child.stderr).text()).not.toContain("EPIPE");
    expect(await leftBy(child.pid)).toEqual([]);
  });

  test("the next run removes what a killed one left", async () => {
    const child = await running("ticks.py");
    child.kill("SIGKILL");
    await child.ended;
    expect(await leftBy(child.pid)).not.toEqual([]);
    expect((await run("hello.py")).stdout).toBe("hello\n");
    expect(await leftBy(child.pid)).toEqual([]);
  });
});
