import { afterEach, describe, expect, test } from "bun:test";
import { appendFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { executorCommand } from "../../src/cli/executor.ts";
import { loadConfig } from "../../src/config.ts";
import type { AppError } from "../../src/errors.ts";
import { HttpExecutor } from "../../src/executor/client.ts";
import type { ExecutionRequest } from "../../src/executor/protocol.ts";
import { ensureExecutor } from "../../src/executor/spawn.ts";
import { collect, parseEntries, readUntil, SPEC } from "./fixture.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");
const ENV = { PATH: process.env.PATH ?? "/usr/bin:/bin", HOME: process.env.HOME ?? "/root" };

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function newConfig() {
  const dataDir = await mkdtemp("/tmp/sandbox-test-");
  cleanups.push(() => rm(dataDir, { recursive: true, force: true }));
  return loadConfig({ DATA_DIR: dataDir });
}

/** An executor of the data directory in a process of its own, ended after the test. */
async function connect(config: Awaited<ReturnType<typeof newConfig>>): Promise<HttpExecutor> {
  const executor = await ensureExecutor(config);
  cleanups.push(() => executor.shutdown().catch(() => {}));
  return executor;
}

function shell(code: string): ExecutionRequest {
  const createdAt = new Date().toISOString();
  return { sandboxId: "s1", language: "shell", code, event: null, env: {}, stdin: "", timeoutMs: 60_000, createdAt };
}

async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}/exe`)) await Bun.sleep(5);
}

function running(command: string): boolean {
  return readdirSync("/proc").some((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").startsWith(command);
    } catch {
      return false;
    }
  });
}

describe("one executor for a data directory", () => {
  test("is started once, in a session of its own, and found again", async () => {
    const config = await newConfig();
    const [one, two] = await Promise.all([connect(config), connect(config)]);
    const health = await one.health();
    expect((await two.health()).pid).toBe(health.pid);
    expect(health.pid).not.toBe(process.pid);
    expect(readFileSync(join(config.dataDir, "executor/pid"), "utf8").trim()).toBe(String(health.pid));
    expect(readFileSync(`/proc/${health.pid}/stat`, "latin1").split(") ")[1]?.split(" ")[3]).toBe(String(health.pid));
    expect(readFileSync(`/proc/${health.pid}/environ`, "latin1")).not.toContain("AWS");
    expect((await one.isolation()).every((check) => check.ok)).toBe(true);
  }, 20_000);

  test("a second one is refused with one line", async () => {
    const config = await newConfig();
    await connect(config);
    const child = Bun.spawn([process.execPath, MAIN, "executor", "--data-dir", config.dataDir], {
      env: ENV,
      stderr: "pipe",
    });
    expect(await child.exited).toBe(2);
    const said = (await new Response(child.stderr).text()).trim();
    expect(said).toContain(config.dataDir);
    expect(said.split("\n").length).toBe(1);
  }, 20_000);

  test("its failure to start is said", async () => {
    const config = { ...(await newConfig()), sandboxUidBase: 3 };
    const error = await ensureExecutor(config).catch((caught: unknown) => caught as AppError);
    expect(error).toMatchObject({ code: "executor_unavailable" });
    expect((error as AppError).message).toContain("SANDBOX_UID_BASE");
  }, 20_000);

  test("SIGTERM ends every sandbox and leaves nothing", async () => {
    const config = await newConfig();
    const executor = await connect(config);
    await executor.createSandbox("s1", SPEC);
    const stream = await executor.execute("e1", shell("echo up; sleep 91.25"));
    const [mine, whole] = stream.tee();
    await readUntil(mine.getReader(), "stdout");
    const { pid } = await executor.health();
    process.kill(pid, "SIGTERM");
    expect((await collect(whole)).outcome).toMatchObject({ status: "cancelled", reason: "session_ended" });
    await gone(pid);
    expect(running("sleep 91.25")).toBe(false);
    expect(existsSync(join(config.dataDir, "executor/socket"))).toBe(false);
    expect(await executor.health().catch((error: unknown) => (error as AppError).code)).toBe("executor_unavailable");
  }, 20_000);

  test("shutdown answers when its sandboxes have ended", async () => {
    const config = await newConfig();
    const executor = await connect(config);
    await executor.createSandbox("s1", SPEC);
    await readUntil((await executor.execute("e1", shell("echo up; sleep 92.25"))).getReader(), "stdout");
    const { pid } = await executor.health();
    await executor.shutdown();
    expect(running("sleep 92.25")).toBe(false);
    await gone(pid);
  }, 20_000);
});

describe("killed with SIGKILL", () => {
  test("no process is left, readers are told, and the next one ends the journals and starts afresh", async () => {
    const config = await newConfig();
    const executor = await connect(config);
    await executor.createSandbox("s1", SPEC);
    const reader = (await executor.execute("e1", shell("echo up; sleep 93.25"))).getReader();
    await readUntil(reader, "stdout");
    await collect(await executor.execute("e2", shell("echo kept > file; echo done")));
    const { pid } = await executor.health();
    process.kill(pid, "SIGKILL");
    expect(await reader.read().catch((error: unknown) => (error as AppError).code)).toBe("executor_unavailable");
    await gone(pid);
    while (running("sleep 93.25")) await Bun.sleep(5);
    appendFileSync(join(config.dataDir, "journals/s1/e1.journal"), '4 stdout {"te');

    const next = await connect(config);
    expect(await next.listSandboxes()).toEqual([]);
    const lost = await collect(await next.journal("e1", 0));
    expect(lost.stdout).toBe("up\n");
    expect(lost.outcome).toMatchObject({
      status: "crashed",
      reason: "executor_lost",
      exit_code: null,
      stdout_bytes: 3,
    });
    expect((await collect(await next.execute("e1", shell("echo again")))).entries).toEqual(lost.entries);
    expect((await collect(await next.journal("e2", 0))).outcome.status).toBe("completed");
    expect(parseEntries(await new Response(await next.journal("e1", 3)).text()).map((entry) => entry.type)).toEqual([
      "end",
    ]);
    await next.createSandbox("s1", SPEC);
    expect((await collect(await next.execute("e3", shell("cat file")))).stdout).toBe("kept\n");
  }, 20_000);
});

describe("over TCP", () => {
  test.each(["127.0.0.1:65536", "127.0.0.1", ":8700"])("the address %s is refused", (address) => {
    expect(executorCommand(["--listen", address])).rejects.toThrow(`--listen ${address} is not valid`);
  });

  test("every request needs the token, and the token must be long", async () => {
    const config = await newConfig();
    const token = "t".repeat(40);
    const refused = Bun.spawn(
      [process.execPath, MAIN, "executor", "--data-dir", config.dataDir, "--listen", "127.0.0.1:0"],
      {
        env: { ...ENV, EXECUTOR_TOKEN: "short" },
        stderr: "pipe",
      },
    );
    expect(await refused.exited).toBe(2);
    expect(await new Response(refused.stderr).text()).toContain("EXECUTOR_TOKEN");
    const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    const { port } = probe;
    probe.stop(true);
    const child = Bun.spawn(
      [process.execPath, MAIN, "executor", "--data-dir", config.dataDir, "--listen", `127.0.0.1:${port}`],
      {
        env: { ...ENV, EXECUTOR_TOKEN: token },
        stdout: "pipe",
      },
    );
    cleanups.push(async () => {
      child.kill("SIGTERM");
      await child.exited;
    });
    await child.stdout.getReader().read();
    const url = `http://127.0.0.1:${port}`;
    expect((await fetch(`${url}/health`)).status).toBe(401);
    expect((await fetch(`${url}/health`, { headers: { Authorization: `Bearer ${token}x` } })).status).toBe(401);
    const executor = new HttpExecutor({ url, token, indexUrl: "http://index.invalid" });
    await executor.createSandbox("s1", SPEC);
    expect((await collect(await executor.execute("e1", shell("echo over tcp")))).stdout).toBe("over tcp\n");
  }, 20_000);
});
