import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { command } from "../cli/command.ts";
import { Client, provenOutput, type Json, type StreamEvent } from "./client.ts";
import { endExecutor, startServer, type Server } from "./server.ts";

const SIZE_BYTES = 64 * 1024 ** 2;
const isRoot = process.getuid?.() === 0;

/** A small file system that only its holder and who enters its namespace see. */
class SmallDisk {
  readonly path: string;
  readonly #holder: Bun.Subprocess<"ignore", "pipe", "inherit">;

  static async make(path: string): Promise<SmallDisk> {
    const script = `mount -t tmpfs -o size=${SIZE_BYTES},mode=755 tmpfs "$1" && echo ready && exec sleep 600`;
    const argv = [
      "unshare",
      "-m",
      "--propagation",
      "private",
      "setpriv",
      "--pdeathsig=KILL",
      "sh",
      "-c",
      script,
      "sh",
      path,
    ];
    const holder = Bun.spawn(argv, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    const { value } = await holder.stdout.getReader().read();
    if (value === undefined) throw new Error("the small file system could not be mounted");
    return new SmallDisk(path, holder);
  }

  private constructor(path: string, holder: Bun.Subprocess<"ignore", "pipe", "inherit">) {
    this.path = path;
    this.#holder = holder;
    // A fault here would fill the disk of the machine.
    const { blocks, bsize } = statfsSync(this.seen());
    if (blocks * bsize > SIZE_BYTES) throw new Error("this is not the small file system");
  }

  /** A path in it, as this process reaches it. */
  seen(name = ""): string {
    return join(`/proc/${this.#holder.pid}/root`, this.path, name);
  }

  get enter(): string[] {
    return ["nsenter", "-m", "-t", String(this.#holder.pid), "--"];
  }

  /** To the last byte. */
  fill(): void {
    const fd = openSync(this.seen("objects/fill"), "w");
    for (const bytes of [65_536, 512, 1]) {
      try {
        while (writeSync(fd, Buffer.alloc(bytes)) === bytes);
      } catch {
        // Full for pieces of this size.
      }
    }
    closeSync(fd);
  }

  empty(): void {
    rmSync(this.seen("objects/fill"));
  }

  async end(): Promise<void> {
    this.#holder.kill("SIGKILL");
    await this.#holder.exited;
  }
}

describe.skipIf(!isRoot)("a disk that is full", () => {
  let dataDir: string;
  let outside: string;
  let disk: SmallDisk;
  let server: Server;
  let client: Client;
  beforeAll(async () => {
    dataDir = await mkdtemp("/tmp/sandbox-test-");
    outside = await mkdtemp("/tmp/sandbox-full-");
    disk = await SmallDisk.make(dataDir);
    await start();
  });
  afterAll(async () => {
    await server.stop();
    await endExecutor(disk.seen());
    await disk.end();
    for (const dir of [dataDir, outside]) await rm(dir, { recursive: true, force: true });
  });

  async function start(): Promise<void> {
    server = await startServer({ dataDir, wrapper: disk.enter });
    client = new Client(server.url);
  }

  async function refused(attempt: () => Promise<{ status: number }>): Promise<number> {
    for (let i = 0; i < 100; i++) {
      const { status } = await attempt();
      if (status >= 300) return status;
    }
    return 0;
  }

  async function until(isSo: () => Promise<boolean>): Promise<void> {
    for (const end = performance.now() + 15_000; performance.now() < end; await Bun.sleep(50)) if (await isSo()) return;
    throw new Error("it took too long");
  }

  async function ended(id: string): Promise<Json> {
    let row: Json = {};
    await until(async () => {
      row = (await client.get(`/executions/${id}`)).body;
      return !["pending", "running"].includes(row["status"] as string);
    });
    return row;
  }

  /** Takes a copy of the records while the service runs and has SQLite check it. */
  async function integrity(): Promise<unknown> {
    const copy = join(outside, "copy.tar");
    const { code, stderr } = await command(["backup", copy], { env: { DATA_DIR: dataDir }, wrapper: disk.enter });
    if (code !== 0) throw new Error(stderr);
    await Bun.spawn(["tar", "-xf", copy, "-C", outside, "sandbox.db"]).exited;
    const db = new Database(join(outside, "sandbox.db"), { readonly: true });
    const answer = db.query("PRAGMA integrity_check").get();
    db.close();
    return answer;
  }

  test("is answered 503 or 507, spoils nothing, and all goes on once there is room", async () => {
    const session = await client.session();
    const before = await client.run(session, "open('kept.txt', 'w').write('kept')\nprint('before')");
    const code =
      "import time\nprint('up', flush=True)\nwhile True:\n  time.sleep(0.02)\n  print('y' * 5000, flush=True)\n  try:\n    open('go.txt'); break\n  except OSError: pass\nprint('z' * 1_000_000)";
    const runs: string[] = [];
    for (let i = 0; i < 6; i++) runs.push(await client.submit(session, code, { timeout: 120 }));
    const streams = runs.map(async (id) => {
      const events: StreamEvent[] = [];
      for await (const event of client.events(id)) events.push(event);
      return events;
    });
    for (const id of runs) for await (const event of client.events(id)) if (event.type === "stdout") break;
    await client.raw("PUT", `/sessions/${session}/files/full.txt`, "x");
    disk.fill();

    // Then the next use of the session would be noted, which can't be.
    await Bun.sleep(1100);
    const wanted = [503, 507];
    expect(wanted).toContain(await refused(() => client.post("/sessions", { template_id: "python-basic" })));
    const file = (): Promise<Response> => client.raw("PUT", `/sessions/${session}/files/new.txt`, "x".repeat(100_000));
    expect(await refused(file)).toBe(507);
    expect(wanted).toContain(
      await refused(() => client.post(`/sessions/${session}/executions`, { language: "shell", code: "echo x" })),
    );
    expect((await client.get(`/executions/${before["id"]}`)).body).toEqual(before);
    expect(await (await client.raw("GET", `/sessions/${session}/files/kept.txt`)).text()).toBe("kept");
    expect((await client.raw("GET", `/sessions/${session}/files/new.txt`)).status).toBe(404);
    // A rename takes no room: it tells the programs to end.
    const moved = await client.post(`/sessions/${session}/files/move`, { from: "full.txt", to: "go.txt" });
    expect(moved.status).toBe(200);
    await until(async () => JSON.stringify((await client.get("/health/detailed")).body).includes(" 0 running"));
    disk.empty();

    for (const [i, id] of runs.entries()) {
      const row = await ended(id);
      expect(row).toMatchObject({ status: "completed", exit_code: 0, stdout_truncated: true });
      const events = (await streams[i]) ?? [];
      expect(provenOutput(events, "stdout")).toBe(row["stdout"] as string);
      expect(events.at(-1)?.type).toBe("end");
      expect(events.at(-1)?.data["stdout_bytes"]).toBeGreaterThan((row["stdout"] as string).length);
    }
    const again = async (): Promise<void> => {
      const run = await client.run(session, "print(open('kept.txt').read())");
      expect(run).toMatchObject({ status: "completed", stdout: "kept\n" });
      await client.session();
      expect((await client.get(`/executions/${before["id"]}`)).body).toEqual(before);
    };
    await again();
    expect((await file()).status).toBe(201);
    expect(await integrity()).toEqual({ integrity_check: "ok" });
    server.process.kill("SIGKILL");
    await server.process.exited;
    await start();
    await again();
  }, 60_000);
});
