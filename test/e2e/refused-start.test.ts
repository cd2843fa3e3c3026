import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, rm } from "node:fs/promises";
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

  const wrong: [string, string][] = [
    ["PORT", "eighty"],
    ["DEFAULT_TIMEOUT", "-5"],
    ["LOG_LEVEL", "loud"],
    ["DISABLE_BWRAP", "perhaps"],
    ["DATABASE_URL", "oracle://x"],
  ];
  for (const [name, value] of wrong)
    test(`when ${name}=${value}`, async () => {
      const { code, lines } = await refused(serviceEnv(dir, { [name]: value }));
      expect(code).toBe(2);
      expect(lines.length).toBe(1);
      expect(lines[0]).toContain(name);
      expect(lines[0]).toContain(value);
    });

  test("when isolation is off but not allowed to be", async () => {
    const { code, lines } = await refused(serviceEnv(dir, { DISABLE_BWRAP: "true" }));
    expect(code).not.toBe(0);
    expect(lines[0]).toContain("ALLOW_UNISOLATED");
  });
});
