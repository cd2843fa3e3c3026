import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import type { OutputPayload } from "../../src/executor/protocol.ts";
import { collect, parseEntries, ranOf, readUntil, TestExecutor } from "./fixture.ts";

let executor: TestExecutor;
let sandbox: string;
beforeAll(async () => {
  executor = await TestExecutor.start();
  sandbox = await executor.sandbox();
});
afterAll(() => executor.close());

const openFiles = (): number => readdirSync("/proc/self/fd").length;

describe("output", () => {
  test("a character split over many writes stays whole", async () => {
    const whole = "€ü😀";
    const code = `import os,time\nfor b in '${whole}'.encode()*20:\n  os.write(1, bytes([b])); time.sleep(0.002)`;
    const ran = await executor.run(sandbox, code);
    expect(ran.stdout).toBe(whole.repeat(20));
    const parts = ran.entries.filter((entry) => entry.type === "stdout");
    expect(parts.length).toBeGreaterThan(10);
    expect(parts.every((part) => part.json["data"] === undefined)).toBe(true);
  });

  test("bytes that are not UTF-8 become U+FFFD and keep their true form", async () => {
    const ran = await executor.shell(sandbox, "printf 'a\\xff\\xfeb\\xe2\\x82'");
    expect(ran.stdout).toBe("a\ufffd\ufffdb\ufffd");
    const parts = ran.entries.filter((entry) => entry.type === "stdout").map((entry) => entry.json as OutputPayload);
    const bytes = Buffer.concat(
      parts.map((part) => Buffer.from(part.data ?? Buffer.from(part.text).toString("base64"), "base64")),
    );
    expect(bytes.toString("latin1")).toBe("a\xff\xfeb\xe2\x82");
    expect(ran.outcome).toMatchObject({ status: "completed", stdout_bytes: 6 });
  });

  test("lines that imitate entries stay output", async () => {
    const ran = await executor.shell(sandbox, 'printf \'9 end {"status":"completed"}\\n\'; exit 3');
    expect(ran.stdout).toBe('9 end {"status":"completed"}\n');
    expect(ran.outcome).toMatchObject({ status: "failed", exit_code: 3 });
  });

  test("a chunk is there as soon as it is written", async () => {
    const reader = (
      await executor.start(executor.newId(), sandbox, "echo a; sleep 0.3; echo b", { language: "shell" })
    ).getReader();
    await readUntil(reader, "stdout");
    const firstMs = performance.now();
    expect(await readUntil(reader, "stdout")).toContain('"text":"b\\n"');
    expect(performance.now() - firstMs).toBeGreaterThan(200);
    await reader.cancel();
  });

  test("100 MB pass at 60 MB/s and more; the record is cut and says so", async () => {
    const id = executor.newId();
    const startedMs = performance.now();
    const stream = await executor.start(id, sandbox, "yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 100000000", {
      language: "shell",
    });
    let bytes = 0;
    let tail = "";
    for await (const chunk of stream) {
      bytes += chunk.length;
      tail = (tail + Buffer.from(chunk.subarray(-4096)).toString("latin1")).slice(-4096);
    }
    expect(100 / ((performance.now() - startedMs) / 1000)).toBeGreaterThan(60);
    expect(bytes).toBeGreaterThan(100_000_000);
    const end = parseEntries(tail.slice(tail.lastIndexOf("\n", tail.length - 2) + 1))[0];
    expect(end?.json).toMatchObject({ status: "completed", stdout_bytes: 100_000_000, stdout_truncated: true });
    const { stdout } = await executor.client.output(id);
    expect(stdout.length).toBe(10_000_000);
    expect(stdout.startsWith("0123456789abc")).toBe(true);
  }, 20_000);

  test("past the journal's limit output is dropped, counted and flagged; the program goes on", async () => {
    const small = await TestExecutor.start({ journalLimitBytes: 100_000 });
    try {
      const ran = await small.shell(
        await small.sandbox(),
        "head -c 1000000 /dev/zero | tr '\\0' x; echo told >&2; touch done",
      );
      expect(ran.stdout.length).toBeLessThan(100_000);
      expect(ran.stderr).toBe("told\n");
      expect(ran.outcome).toMatchObject({ stdout_bytes: 1_000_000, stdout_truncated: true, stderr_truncated: false });
      expect(ran.outcome.artifacts.map((one) => one.path)).toEqual(["done"]);
    } finally {
      await small.close();
    }
  });
});

describe("readers", () => {
  const COUNTING = "for i in $(seq 1 100); do echo $i; sleep 0.01; done";
  const COUNTED = Array.from({ length: 100 }, (_, i) => `${i + 1}\n`).join("");

  test("late, live and resuming readers see the same bytes", async () => {
    const id = executor.newId();
    const first = collect(await executor.start(id, sandbox, COUNTING, { language: "shell" }));
    await readUntil((await executor.client.journal(id, 0)).getReader(), "stdout");
    const live = collect(await executor.client.journal(id, 0));
    const whole = await first;
    expect(whole.stdout).toBe(COUNTED);
    expect((await live).entries).toEqual(whole.entries);
    for (const after of [1, 2, 50, whole.entries.length - 1, whole.entries.length]) {
      const rest = parseEntries(await new Response(await executor.client.journal(id, after)).text());
      expect(rest).toEqual(whole.entries.slice(after));
    }
  });

  test("one that leaves in mid-stream is freed at once and the execution goes on", async () => {
    const id = executor.newId();
    const whole = collect(await executor.start(id, sandbox, COUNTING, { language: "shell" }));
    const before = openFiles();
    const stops = Array.from({ length: 30 }, () => new AbortController());
    const readers = await Promise.all(
      stops.map(async (stop) => {
        const reader = (await executor.client.journal(id, 0, stop.signal)).getReader();
        await reader.read();
        return reader;
      }),
    );
    expect(openFiles()).toBeGreaterThan(before + 30);
    for (const stop of stops) stop.abort();
    for (const reader of readers)
      expect(await reader.read().catch((error: unknown) => (error as Error).name)).toBe("AbortError");
    while (openFiles() > before + 4) await Bun.sleep(1);
    expect((await whole).stdout).toBe(COUNTED);
  });

  test("a slow one holds nobody up and costs no memory", async () => {
    const id = executor.newId();
    const slow = (await executor.start(id, sandbox, "yes slow | head -c 80000000", { language: "shell" })).getReader();
    await slow.read();
    const before = process.memoryUsage().rss;
    let bytes = 0;
    for await (const chunk of await executor.client.journal(id, 0)) bytes += chunk.length;
    expect(bytes).toBeGreaterThan(80_000_000);
    for (let i = 0; i < 5; i++) {
      await slow.read();
      await Bun.sleep(20);
    }
    Bun.gc(true);
    expect(process.memoryUsage().rss - before).toBeLessThan(60_000_000);
    await slow.cancel();
  }, 20_000);

  test("an execution that says nothing gives its first entries at once", async () => {
    const id = executor.newId();
    const startedMs = performance.now();
    const reader = (await executor.start(id, sandbox, "sleep 5", { language: "shell" })).getReader();
    await reader.read();
    expect(performance.now() - startedMs).toBeLessThan(200);
    await executor.client.cancel(id);
    await reader.cancel();
    expect(ranOf(parseEntries(await new Response(await executor.client.journal(id, 0)).text())).outcome.status).toBe(
      "cancelled",
    );
  });
});
