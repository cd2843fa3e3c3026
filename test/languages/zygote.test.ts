import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Direct } from "./direct.ts";
import type { Outcome } from "./programs/program.ts";

const PYTHON = "/usr/bin/python3";
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});

/** Without a zygote yet; its one layer holds the modules given. */
function start(modules: Record<string, string> = {}): Direct {
  const layer = mkdtempSync("/tmp/layer-");
  undo.push(() => rmSync(layer, { recursive: true, force: true }));
  for (const [name, code] of Object.entries(modules)) writeFileSync(join(layer, `${name}.py`), code);
  const direct = new Direct(PYTHON, [layer]);
  undo.push(() => direct.stop());
  return direct;
}

function python(direct: Direct, code: string): Promise<Outcome> {
  return direct.run({ name: "", language: "python", code, expect: {} });
}

/** Runs the code until it prints the text; the time limit of the test ends it otherwise. */
async function until(direct: Direct, code: string, stdout: string): Promise<void> {
  while ((await python(direct, code)).stdout !== stdout) await Bun.sleep(20);
}

/** Processes that the zygote has made and that are no program: children of the harness that run zygote.py. */
function helpersOf(direct: Direct, zygote: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== zygote)
    .filter((name) => {
      try {
        const parent = readFileSync(`/proc/${name}/stat`, "utf8").split(") ").at(-1)?.split(" ")[1];
        const isZygote = readFileSync(`/proc/${name}/cmdline`, "utf8").includes("languages/zygote.py");
        return Number(parent) === direct.initPid && isZygote;
      } catch {
        return false;
      }
    })
    .map(Number);
}

describe("zygote", () => {
  test("imports while idle what programs of the session have imported", async () => {
    const direct = start();
    await direct.startZygote();
    const seen = "import sys\nprint('statistics' in sys.modules)";
    expect((await python(direct, seen)).stdout).toBe("False\n");
    await python(direct, "import statistics, time\ntime.sleep(0.1)");
    const end = performance.now() + 20_000;
    let found = "False\n";
    while (found !== "True\n" && performance.now() < end) {
      await Bun.sleep(200);
      found = (await python(direct, seen)).stdout;
    }
    expect(found).toBe("True\n");
  }, 30_000);

  test("answers while the modules of its template load, and then has them", async () => {
    const direct = start({ heavy: "import time\ntime.sleep(1.5)\nVALUE = 5", leaves: "raise SystemExit(3)" });
    await direct.startZygote(["no_such_module", "leaves", "heavy"]);
    for (let i = 0; i < 3; i++) {
      const before = performance.now();
      await python(direct, "pass");
      expect(performance.now() - before).toBeLessThan(1000);
      await Bun.sleep(30);
    }
    await until(direct, "import sys\nprint('heavy' in sys.modules)", "True\n");
    const code = "import heavy, os, sys\nprint(heavy.VALUE, sys.path.count(os.path.dirname(heavy.__file__)))";
    expect((await python(direct, code)).stdout).toBe("5 1\n");
  });

  test("what it has imported never stands in for a program's own module", async () => {
    const direct = start({ mine: "VALUE = 'preloaded'" });
    await direct.startZygote(["mine"]);
    const code = "import sys\nprint('mine' in sys.modules)\nimport mine\nprint(mine.VALUE)";
    await until(direct, code, "True\npreloaded\n");
    await python(direct, "open('mine.py', 'w').write('VALUE = 7')");
    const own = await direct.run({
      name: "",
      language: "python",
      code: `${code}\ndef handler(event):\n    return [event, input()]`,
      event: { text: "é".repeat(200_000) },
      stdin: "typed",
      expect: {},
    });
    expect(own).toMatchObject({ status: "completed", stdout: "False\n7\n" });
    expect(own.return_value).toEqual([{ text: "é".repeat(200_000) }, "typed"]);
    await python(direct, "import os\nos.remove('mine.py')");
    expect((await python(direct, code)).stdout).toBe("True\npreloaded\n");
  });

  test("goes on when the process that loads them, or the one made ahead, is killed", async () => {
    const direct = start({ heavy: "VALUE = 6" });
    const zygote = await direct.startZygote(["heavy"]);
    await until(direct, "import sys\nprint('heavy' in sys.modules)", "True\n");
    for (let round = 0; round < 3; round++) {
      for (const pid of helpersOf(direct, zygote)) process.kill(pid, "SIGKILL");
      while (helpersOf(direct, zygote).length > 0) await Bun.sleep(1);
      expect((await python(direct, "print('ran')")).stdout).toBe("ran\n");
      await Bun.sleep(60);
    }
  });

  test("forks as libraries with threads need it", async () => {
    const code = "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()";
    const direct = start({ threaded: code });
    await direct.startZygote(["threaded"]);
    await until(direct, "import sys\nprint('threaded' in sys.modules)", "True\n");
    const look = `
import threading, os
print(threading.active_count(), os.getsid(0) == os.getpid(), open("/proc/self/oom_score_adj").read().strip())`;
    for (let i = 0; i < 5; i++) expect((await python(direct, look)).stdout).toBe("1 True 1000\n");
  });

  test("leaves its programs open to their own tools", async () => {
    const direct = start();
    await direct.startZygote();
    const code = `import os\nprint(os.stat("/proc/self/mem").st_uid == os.getuid())`;
    for (let i = 0; i < 3; i++) expect((await python(direct, code)).stdout).toBe("True\n");
  });
});

test("a program runs the same without a zygote", async () => {
  const outcome = await start().run({
    name: "",
    language: "python",
    code: "import sys\nprint(sys.argv, __name__)\ndef handler(event):\n    return event\n",
    event: { a: 1 },
    env: { PYTHONHASHSEED: "1" },
    expect: {},
  });
  expect(outcome).toMatchObject({ status: "completed", stdout: "['main.py'] __main__\n", return_value: { a: 1 } });
});

test("a start imports nothing that takes long", async () => {
  const languages = join(import.meta.dir, "../../src/executor/languages");
  const costly = "{'re', 'json', 'tokenize', 'threading', 'collections', 'enum'}";
  const begin = `import sys; sys.dont_write_bytecode = True; before = ${costly} & set(sys.modules)`;
  const end = `import forking, program, warm; print(${costly} & set(sys.modules) - before)`;
  const code = `${begin}; sys.path.insert(0, '${languages}'); ${end}`;
  const run = Bun.spawn([PYTHON, "-s", "-c", code], { env: {}, stdout: "pipe" });
  expect(await new Response(run.stdout).text()).toBe("set()\n");
});
