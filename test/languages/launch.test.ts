import { describe, expect, test } from "bun:test";
import { JAIL_PATHS, launchPlan, spareCommand, zygoteCommand } from "../../src/executor/languages/launch.ts";
import { rawJson } from "../../src/json-text.ts";

const request = { language: "python" as const, code: "pass", event: rawJson({ a: 1 }), timeoutMs: 5000 };
const jobOf = (bytes: Uint8Array | null): unknown => JSON.parse(new TextDecoder().decode(bytes ?? new Uint8Array()));

describe("Python", () => {
  test("is forked from the zygote, with its own variables in the job", () => {
    const plan = launchPlan(request, { A: "1" }, JAIL_PATHS, "exec_1");
    expect(plan.mode).toBe("zygote");
    expect(plan.argv).toEqual(["/usr/bin/python3", "-s", "/.sandbox/zygote.py", "--cold"]);
    expect(plan.env["A"]).toBeUndefined();
    expect(jobOf(plan.job)).toEqual({
      language: "python",
      code: "pass",
      event: { a: 1 },
      env: { A: "1" },
      cwd: "/workspace",
      timeout_ms: 5000,
      execution_id: "exec_1",
    });
  });

  test("gets an interpreter of its own for what one reads at its start", () => {
    const plan = launchPlan(request, { PYTHONHASHSEED: "random", B: "2" });
    expect(plan).toMatchObject({ mode: "exec", env: { PYTHONHASHSEED: "random" } });
    expect(plan.env["B"]).toBeUndefined();
    expect(launchPlan(request, { PYTHONPATH: "/x", PYTHONUNBUFFERED: "1" }).mode).toBe("zygote");
  });

  test("finds dependency layers first, also those that came after the zygote", () => {
    const paths = { ...JAIL_PATHS, layers: ["/.layers/b", "/.layers/a"] };
    const expected = {
      PYTHONPATH: "/.layers/b:/.layers/a",
      PATH: expect.stringMatching(/^\/\.layers\/b\/bin:\/\.layers\/a\/bin:\/usr/),
    };
    expect(jobOf(launchPlan(request, {}, paths).job)).toMatchObject({ env: expected });
    expect(zygoteCommand([], paths).env).toMatchObject(expected);
    expect(jobOf(launchPlan(request, { PYTHONPATH: "/mine" }, paths).job)).toMatchObject({
      env: { PYTHONPATH: "/mine" },
    });
  });

  test("an event that is absent is null", () => {
    expect(jobOf(launchPlan({ ...request, event: null }, {}).job)).toMatchObject({ event: null });
  });

  test("the zygote is told what to preload", () => {
    expect(zygoteCommand(["numpy", "pandas"]).argv.slice(3)).toEqual(["--zygote", "numpy", "pandas"]);
  });
});

describe("JavaScript and TypeScript", () => {
  test("go to a spare, or to the same command", () => {
    for (const language of ["javascript", "typescript"] as const) {
      const plan = launchPlan({ ...request, language }, { A: "1" });
      expect(plan).toMatchObject({ mode: "spare", ...spareCommand() });
      expect(jobOf(plan.job)).toMatchObject({ language, env: { A: "1" } });
    }
    expect(spareCommand().env["BUN_BE_BUN"]).toBe("1");
  });
});

describe("shell", () => {
  const shell = { ...request, language: "shell" as const };

  test("is started with its code, its event and its variables", () => {
    const plan = launchPlan({ ...shell, code: "echo" }, { A: "1", HOME: "/tmp" });
    const argv = ["/bin/bash", "-c", "echo", "main.sh"];
    expect(plan).toMatchObject({ mode: "exec", argv, job: null, cwd: "/workspace" });
    expect(plan.env).toMatchObject({ EVENT_JSON: '{"a":1}', A: "1", HOME: "/tmp", LANG: "C.UTF-8" });
  });

  test("no argument and no variable passes the kernel's bound, in bytes", () => {
    const long = "é".repeat(60_000);
    for (const plan of [
      launchPlan({ ...shell, code: long }, {}),
      launchPlan({ ...shell, event: rawJson({ s: long }) }, {}),
    ]) {
      for (const text of [...plan.argv, ...Object.values(plan.env)]) {
        expect(Buffer.byteLength(text)).toBeLessThan(128 * 1024);
      }
      expect(plan.job?.length).toBeGreaterThanOrEqual(120_000);
    }
  });
});
