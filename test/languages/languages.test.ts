import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { expectOutcome } from "./expectation.ts";
import type { Outcome, Program, RunProgram } from "./programs/program.ts";
import { PROGRAMS } from "./programs/table.ts";

let server: Server;
let client: Client;
let session: string;
beforeAll(async () => {
  server = await startServer();
  client = new Client(server.url);
  session = await client.session({ disk: "256Mi" });
});
afterAll(() => server.stop());

const run: RunProgram = async ({ language, code, event, stdin, env, timeout }) => {
  const fields = { language, event: event ?? null, stdin: stdin ?? "", env_vars: env ?? {}, timeout: timeout ?? 30 };
  return (await client.run(session, code, fields)) as Outcome;
};

describe.each(["python", "javascript", "typescript", "shell"] as const)("%s", (language) => {
  const programs = PROGRAMS.filter((program) => program.language === language);
  test.each(programs.map((program) => [program.name, program] as const))("%s", async (_, program: Program) => {
    expectOutcome(program, await run(program));
  });
});

test("the table has at least 120 programs, each with a name of its own", () => {
  expect(PROGRAMS.length).toBeGreaterThanOrEqual(120);
  expect(new Set(PROGRAMS.map(({ language, name }) => `${language} ${name}`)).size).toBe(PROGRAMS.length);
});

describe("between executions", () => {
  const python = (code: string) => run({ name: "", language: "python", code, expect: {} });

  test("Python keeps nothing: modules, globals, patches, directories, variables", async () => {
    await python(`
import builtins, json, os, random, sys
builtins.leak = sys.leak = json.leak = 1
json.dumps = lambda *a, **k: "patched"
os.environ["LEAK"] = "1"
os.chdir("/tmp")
sys.path.append("/leak")
sys.setrecursionlimit(200)
random.seed(1)`);
    const after = await python(`
import builtins, json, os, sys
print(hasattr(builtins, "leak"), hasattr(sys, "leak"), hasattr(json, "leak"), json.dumps([1]), "LEAK" in os.environ,
      os.getcwd(), "/leak" in sys.path, sys.getrecursionlimit(), "leak" in globals())`);
    expect(after.stdout).toBe("False False False [1] False /workspace False 1000 False\n");
  });

  test("random numbers, identifiers and processes differ", async () => {
    const code = `
import os, random, secrets, tempfile, uuid, multiprocessing
print(random.random(), os.getpid(), uuid.uuid4(), uuid.uuid1(), secrets.token_hex(8), os.urandom(8).hex(),
      next(tempfile._get_candidate_names()), multiprocessing.current_process().authkey.hex(), sep="\\n")`;
    const outputs = await Promise.all([1, 2, 3, 4, 5, 6].map(() => python(code)));
    for (let line = 0; line < 8; line++) {
      expect(new Set(outputs.map((output) => output.stdout.split("\n")[line])).size).toBe(outputs.length);
    }
  });

  test("a session has a hash seed of its own, and an execution that asks for one gets one", async () => {
    const code = "print(hash('text'), {'a', 'b', 'c'} is None)";
    const here = (await python(code)).stdout;
    const other = await client.session();
    expect((await client.run(other, code))["stdout"]).not.toBe(here);
    const asked = () => run({ name: "", language: "python", code, env: { PYTHONHASHSEED: "random" }, expect: {} });
    expect((await asked()).stdout).not.toBe((await asked()).stdout);
  });

  test("JavaScript keeps nothing", async () => {
    const code = "console.log(globalThis.leak, process.env.LEAK); globalThis.leak = 1; process.env.LEAK = '1';";
    for (let i = 0; i < 3; i++) {
      const { stdout } = await run({ name: "", language: "javascript", code, expect: {} });
      expect(stdout).toBe("undefined undefined\n");
    }
  });

  test("eight at once do not mix", async () => {
    const code =
      "import time\nfor i in range(20):\n    print(i)\n    time.sleep(0.002)\ndef handler(event):\n    return event['n']";
    const runs = Array.from({ length: 8 }, (_, n) =>
      run({ name: "", language: "python", code, event: { n }, expect: {} }),
    );
    const outputs = await Promise.all(runs);
    const lines = Array.from({ length: 20 }, (_, i) => `${i}\n`).join("");
    expect(outputs.map((output) => output.return_value)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(outputs.every((output) => output.stdout === lines)).toBeTrue();
  });
});
