import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { rawJson } from "../../src/json-text.ts";
import { collect, readUntil, TestExecutor } from "./fixture.ts";

let executor: TestExecutor;
let sandbox: string;
beforeAll(async () => {
  executor = await TestExecutor.start();
  sandbox = await executor.sandbox({ env: { FROM: "session", KEPT: "yes" } });
});
afterAll(() => executor.close());

describe("languages", () => {
  const HELLO = {
    python: "print('hi')\ndef handler(event):\n    return {'got': event}",
    javascript: "console.log('hi'); function handler(event) { return { got: event } }",
    typescript:
      "console.log('hi'); export async function handler(event: unknown): Promise<object> { return { got: event } }",
  } as const;
  for (const [language, code] of Object.entries(HELLO))
    test(`${language} runs, prints and returns`, async () => {
      const ran = await executor.run(sandbox, code, {
        language: language as keyof typeof HELLO,
        event: rawJson({ a: [1, "ü"] }),
      });
      expect(ran.stderr).toBe("");
      expect(ran.outcome).toMatchObject({ status: "completed", exit_code: 0, reason: null, error_message: null });
      expect(ran.stdout).toBe("hi\n");
      expect(ran.returned).toEqual({ got: { a: [1, "ü"] } });
      const types = new Set(ran.entries.map((entry) => entry.type));
      expect([...types]).toEqual(["status", "stdout", "result", "end"]);
    });

  test("shell has the event, variables, stdin and an exit code of its own", async () => {
    const code = 'read line; echo "$line $FROM $KEPT $EVENT_JSON"; exit 7';
    const ran = await executor.shell(sandbox, code, {
      event: rawJson({ a: 1 }),
      env: { FROM: "execution" },
      stdin: "typed\n",
    });
    expect(ran.stdout).toBe('typed execution yes {"a":1}\n');
    expect(ran.outcome).toMatchObject({ status: "failed", exit_code: 7, reason: "exit_code" });
  });

  test("a second JavaScript run takes the spare interpreter", async () => {
    for (let i = 0; i < 3; i++) {
      const ran = await executor.run(sandbox, "globalThis.left = (globalThis.left ?? 0) + 1; console.log(left)", {
        language: "javascript",
      });
      expect(ran.stdout).toBe("1\n");
    }
  });

  test("code that no process can be given fails to start and says why", async () => {
    const ran = await executor.shell(sandbox, "echo a\0b");
    expect(ran.outcome).toMatchObject({ status: "failed", reason: "start_failed", exit_code: null });
    expect(ran.outcome.error_message).toContain("NUL");
    for (const bytes of [200_000, 3_000_000]) {
      const large = await executor.shell(sandbox, "echo run", { env: { LARGE: "x".repeat(bytes) } });
      expect(large.outcome).toMatchObject({ status: "failed", reason: "start_failed" });
    }
    expect((await executor.shell(sandbox, "echo alive")).stdout).toBe("alive\n");
  });
});

describe("endings", () => {
  test("an exception keeps its message and earlier output", async () => {
    const ran = await executor.run(sandbox, "print('before')\n1/0");
    expect(ran.stdout).toBe("before\n");
    expect(ran.stderr).toContain("ZeroDivisionError");
    expect(ran.outcome).toMatchObject({ status: "failed", reason: "exception", exit_code: 1 });
    expect(ran.outcome.error_message).toContain("division by zero");
  });

  test("a signal from inside", async () => {
    const { outcome } = await executor.run(sandbox, "import os; os.kill(os.getpid(), 9)");
    expect(outcome).toMatchObject({ status: "failed", reason: "signal", exit_code: 137 });
    expect(outcome.error_message).toContain("SIGKILL");
  });

  test("a timeout fires within 100 ms and leaves no process", async () => {
    const code =
      "import subprocess,time\nprint('start', flush=True)\nsubprocess.Popen(['setsid','sleep','71.25'])\ntime.sleep(60)";
    const ran = await executor.run(sandbox, code, { timeoutMs: 500 });
    expect(ran.stdout).toBe("start\n");
    expect(ran.outcome).toMatchObject({ status: "timeout", exit_code: 124, reason: "timeout" });
    expect(ran.outcome.error_message).toContain("0.5 s");
    expect(ran.outcome.metrics.duration_ms).toBeGreaterThanOrEqual(500);
    expect(ran.outcome.metrics.duration_ms).toBeLessThan(600);
    expect((await executor.shell(sandbox, "pgrep -f '^sleep 71' | wc -l")).stdout.trim()).toBe("0");
  });

  test("cancelling answers when no process is left, and again without effect", async () => {
    const id = executor.newId();
    const stream = await executor.start(id, sandbox, "setsid sleep 72.25 & echo go; sleep 72.25", {
      language: "shell",
    });
    const [mine, whole] = stream.tee();
    await readUntil(mine.getReader(), "stdout");
    await executor.client.cancel(id);
    expect((await executor.shell(sandbox, "pgrep -f '^sleep 72' | wc -l")).stdout.trim()).toBe("0");
    await executor.client.cancel(id);
    const ran = await collect(whole);
    expect(ran.outcome).toMatchObject({ status: "cancelled", reason: "cancelled", exit_code: 137 });
    expect(ran.stdout).toBe("go\n");
  });

  test("what is cancelled before it comes never starts", async () => {
    const id = executor.newId();
    expect(await executor.client.cancel(id).catch((error: unknown) => error)).toMatchObject({
      code: "execution_not_found",
    });
    const ran = await collect(await executor.start(id, sandbox, "touch was-started", { language: "shell" }));
    expect(ran.outcome).toMatchObject({ status: "cancelled", reason: "cancelled", exit_code: null, started_at: null });
    expect(ran.entries.map((entry) => entry.type)).toEqual(["status", "end"]);
    expect((await executor.shell(sandbox, "ls was-started")).outcome.status).toBe("failed");
  });

  test("over the memory limit: failed, and says memory; the sandbox lives on", async () => {
    const small = await executor.sandbox({
      limits: { cpuCores: 1, memoryBytes: 128 * 1024 ** 2, diskBytes: 1024 ** 3, maxProcesses: 64 },
    });
    const code = "b = bytearray(400 * 1024 * 1024)\nfor i in range(0, len(b), 4096): b[i] = 1";
    const { outcome } = await executor.run(small, code);
    expect(outcome).toMatchObject({ status: "failed", reason: "memory_limit" });
    expect(outcome.error_message).toContain("memory limit of 128 MiB");
    expect((await executor.run(small, "print('alive')")).stdout).toBe("alive\n");
  });

  test("no process left for another program: failed, and says the limit", async () => {
    const limits = { cpuCores: 1, memoryBytes: 512 * 1024 ** 2, diskBytes: 1024 ** 3, maxProcesses: 24 };
    const full = await executor.sandbox({ limits });
    const code =
      "import os, time\ntry:\n  while os.fork(): pass\nexcept OSError: print('full', flush=True)\ntime.sleep(60)";
    const id = executor.newId();
    await readUntil((await executor.start(id, full, code)).getReader(), "stdout");
    const { outcome } = await executor.shell(full, "true");
    expect(outcome).toMatchObject({ status: "failed", reason: "process_limit", exit_code: null });
    expect(outcome.error_message).toContain("the limit of 24 processes was reached");
    await executor.client.cancel(id);
    expect((await executor.shell(full, "echo alive")).stdout).toBe("alive\n");
  });

  test("what is written to the result channel is parsed strictly", async () => {
    for (const [bytes, message] of [
      ["not json", "not valid JSON"],
      ['{"x":1}', "neither return_value nor error"],
      ["[".repeat(100_000), "not valid JSON"],
    ]) {
      const ran = await executor.shell(sandbox, "cat >&4", { stdin: bytes ?? "" });
      expect(ran.outcome).toMatchObject({ status: "failed", reason: "invalid_result" });
      expect(ran.outcome.error_message).toContain(message ?? "");
    }
    const large = await executor.shell(sandbox, "head -c 20000000 /dev/zero >&4");
    expect(large.outcome.error_message).toContain("larger than 10 MiB");
  });

  test("a background process outlives its execution and holds its pipes without delaying the end", async () => {
    const startedMs = performance.now();
    const ran = await executor.shell(sandbox, "sleep 63.25 & echo left");
    expect(ran.outcome.status).toBe("completed");
    expect(performance.now() - startedMs).toBeLessThan(2000);
    expect((await executor.shell(sandbox, "pgrep -f '^sleep 63' | wc -l; pkill -f '^sleep 63'")).stdout.trim()).toBe(
      "1",
    );
  });
});

describe("queue", () => {
  test("the next starts when one ends; past the waiting room it is refused", async () => {
    const busy = await executor.sandbox({ maxRunning: 2 });
    const ids = Array.from({ length: 66 }, () => executor.newId());
    const streams = await Promise.all(ids.map((id) => executor.start(id, busy, "sleep 30", { language: "shell" })));
    const refused = await executor
      .start(executor.newId(), busy, "true", { language: "shell" })
      .catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(AppError);
    expect(refused).toMatchObject({ code: "queue_full", retryAfterS: 1 });
    const waiting = await executor.client.journal(ids[65] ?? "", 0);
    await executor.client.cancel(ids[65] ?? "");
    const ran = await collect(waiting);
    expect(ran.outcome).toMatchObject({ status: "cancelled", exit_code: null, started_at: null });
    expect(ran.entries.map((entry) => entry.type)).toEqual(["status", "end"]);
    const third = (streams[2] as ReadableStream<Uint8Array>).getReader();
    const first = Buffer.from((await third.read()).value ?? []).toString();
    expect(first).toContain("pending");
    expect(first).not.toContain("running");
    await executor.client.cancel(ids[0] ?? "");
    expect(await readUntil(third, "status")).toContain("running");
    await executor.client.deleteSandbox(busy, { deleteWorkspace: true });
    expect(await readUntil(third, "end")).toContain("session_ended");
  }, 20_000);

  test("the same id is run once", async () => {
    const id = executor.newId();
    const code = "echo once >> idem; wc -l < idem";
    const streams = await Promise.all([1, 2, 3].map(() => executor.start(id, sandbox, code, { language: "shell" })));
    const runs = await Promise.all(streams.map(collect));
    for (const ran of runs) expect(ran.stdout.trim()).toBe("1");
    expect((await collect(await executor.start(id, sandbox, code, { language: "shell" }))).entries).toEqual(
      runs[0]?.entries ?? [],
    );
  });
});

describe("records", () => {
  test("what changed in the workspace is reported, by its own execution alone", async () => {
    const own = await executor.sandbox();
    const made = await executor.shell(
      own,
      "mkdir -p a/b; echo 1 > a/b/x.csv; echo 2 > y.json; ln -s /etc/passwd link; mkfifo pipe",
    );
    expect(made.outcome.artifacts).toEqual([
      { path: "a/b/x.csv", size: 2, mime_type: "text/csv", type: "created" },
      { path: "y.json", size: 2, mime_type: "application/json", type: "created" },
    ]);
    expect((await executor.shell(own, "cat y.json")).outcome.artifacts).toEqual([]);
    const changed = await executor.shell(own, "echo more >> y.json; rm a/b/x.csv; touch -d 2001-01-01 new.bin");
    expect(changed.outcome.artifacts).toEqual([
      { path: "new.bin", size: 0, mime_type: "application/octet-stream", type: "created" },
      { path: "y.json", size: 7, mime_type: "application/json", type: "modified" },
    ]);
  });

  test("metrics and timing come from the run", async () => {
    const { outcome } = await executor.run(sandbox, "x = 0\nfor i in range(2_000_000): x += i");
    expect(outcome.metrics.cpu_time_ms).toBeGreaterThan(10);
    expect(outcome.metrics.peak_memory_mb).toBeGreaterThan(3);
    expect(outcome.metrics.duration_ms).toBeGreaterThan(10);
    expect(Object.keys(outcome.timing)).toEqual(["queue", "spawn", "run", "flush"]);
  });

  test("a forgotten execution is unknown; forgetting again is no error", async () => {
    const id = executor.newId();
    await collect(await executor.start(id, sandbox, "true", { language: "shell" }));
    expect(await executor.client.output(id)).toEqual({ stdout: "", stderr: "" });
    await executor.client.deleteExecution(id, sandbox);
    await executor.client.deleteExecution(id, sandbox);
    for (const call of [executor.client.journal(id, 0), executor.client.output(id), executor.client.cancel(id)])
      expect(await call.catch((error: unknown) => (error as AppError).code)).toBe("execution_not_found");
  });
});
