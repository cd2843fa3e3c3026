import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, readFile, rm } from "node:fs/promises";
import { INCOMPLETE_SETTINGS, WRONG_SETTINGS } from "../config/wrong-settings.ts";
import { Client } from "./client.ts";
import { EXECUTABLE, newDataDir, serviceEnv, startServer, type Server } from "./server.ts";

let server: Server;
let dir: string;
beforeAll(async () => {
  server = await startServer();
  dir = await newDataDir();
});
afterAll(async () => {
  await server.stop();
  await rm(dir, { recursive: true, force: true });
});

/** Runs `sandbox serve` that is expected to end at once. */
async function refused(
  env: Record<string, string>,
  command: string[] = [EXECUTABLE, "serve"],
): Promise<{ code: number; lines: string[] }> {
  const child = Bun.spawn(command, { env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const timer = setTimeout(() => child.kill("SIGKILL"), 15_000);
  const stderr = await new Response(child.stderr).text();
  const code = await child.exited;
  clearTimeout(timer);
  return { code, lines: stderr.trim().split("\n") };
}

describe("serve refuses to start with one clear line", () => {
  test("when another serve has the data directory", async () => {
    const { code, lines } = await refused(serviceEnv(server.dataDir));
    expect(code).not.toBe(0);
    expect(lines.length).toBe(1);
    expect(lines[0]).toContain(server.dataDir);
    expect(lines[0]).toContain(String(server.process.pid));
    expect((await new Client(server.url).get("/health")).status).toBe(200);
  });

  test("when the port is taken", async () => {
    const { port } = new URL(server.url);
    const { code, lines } = await refused(serviceEnv(dir, { PORT: port }));
    expect(code).not.toBe(0);
    expect(lines.length).toBe(1);
    expect(lines[0]).toContain(port);
  });

  test("when the address is not this machine's, and makes no key that nobody would see", async () => {
    for (const HOST of ["8.8.8.8", "no-such-host.invalid"]) {
      const { code, lines } = await refused(serviceEnv(dir, { HOST }));
      expect({ code, lines: lines.length }).toEqual({ code: 2, lines: 1 });
      expect(lines[0]).toContain(`HOST=${HOST} is no address of this machine`);
    }
    const keys = new Database(`${dir}/sandbox.db`, { readonly: true });
    expect(keys.query("SELECT name FROM api_keys").all()).toEqual([]);
    keys.close();
  });

  test("when the data directory can't be written", async () => {
    const locked = `${dir}/locked`;
    await mkdir(locked);
    await chmod(locked, 0o555);
    const asUser =
      process.getuid?.() === 0
        ? ["setpriv", "--reuid", "65534", "--clear-groups", "--", EXECUTABLE, "serve"]
        : [EXECUTABLE, "serve"];
    const { code, lines } = await refused(serviceEnv(`${locked}/data`), asUser);
    expect(code).not.toBe(0);
    expect(lines.length).toBe(1);
    expect(lines[0]).toContain(locked);
  });

  test.skipIf(process.getuid?.() !== 0)("when the data directory is on a read-only file system", async () => {
    const script = 'mount -t tmpfs -o size=1m tmpfs "$1" && mount -o remount,ro "$1" && shift && exec "$@"';
    const mounted = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", dir, EXECUTABLE, "serve"];
    const { code, lines } = await refused(serviceEnv(dir), mounted);
    expect({ code, lines }).toEqual({
      code: 2,
      lines: [`sandbox: DATA_DIR=${dir} can't be written: read-only file system`],
    });
  });

  test("when the records are of a newer program, which stay as they are", async () => {
    const home = await newDataDir();
    const file = `${home}/newer.db`;
    const db = new Database(file, { create: true });
    db.run(
      "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)",
    );
    db.run("INSERT INTO schema_migrations VALUES (9999, 'later', '2100-01-01T00:00:00.000Z')");
    db.close();
    const before = await readFile(file);
    const { code, lines } = await refused(serviceEnv(dir, { DATABASE_URL: `sqlite:${file}` }));
    expect({ code, lines: lines.length }).toEqual({ code: 2, lines: 1 });
    expect(lines[0]).toContain("version 9999");
    expect(await readFile(file)).toEqual(before);
    await rm(home, { recursive: true });
  });

  test("when a variable has a wrong value, or lacks another one, with exit code 2", async () => {
    const wrong = new Map(WRONG_SETTINGS.map(([variable, value]) => [variable, value]));
    wrong.set("DATA_DIR", "/dev/null/data");
    for (const [variable, value] of wrong) {
      const { code, lines } = await refused(serviceEnv(dir, { [variable]: value }));
      expect({ variable, code, lines: lines.length }).toEqual({ variable, code: 2, lines: 1 });
      expect(lines[0]).toContain(`${variable}=`);
    }
    const incomplete: typeof INCOMPLETE_SETTINGS = [
      ...INCOMPLETE_SETTINGS,
      [{ PROVISIONER: "kubernetes" }, "EXECUTOR_TOKEN_SECRET is unset"],
    ];
    for (const [settings, line] of incomplete) {
      const { code, lines } = await refused(serviceEnv(dir, settings));
      expect({ settings, code, lines: lines.length }).toEqual({ settings, code: 2, lines: 1 });
      expect(lines[0]).toContain(line);
    }
  });
});
