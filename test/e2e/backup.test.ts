import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { command } from "../cli/command.ts";
import { Client, provenOutput } from "./client.ts";
import { endExecutor, newDataDir, startServer, type Server } from "./server.ts";

let root: string;
const dataDirs: string[] = [];
const servers: Server[] = [];
beforeAll(async () => {
  root = await mkdtemp("/tmp/sandbox-backup-");
});
afterAll(async () => {
  for (const server of servers) await server.stop();
  for (const dir of [root, ...dataDirs]) {
    await endExecutor(dir);
    await rm(dir, { recursive: true, force: true });
  }
});

async function dataDirOf(): Promise<string> {
  const dir = await newDataDir();
  dataDirs.push(dir);
  return dir;
}

async function serve(dataDir: string): Promise<Server> {
  const server = await startServer({ dataDir });
  servers.push(server);
  return server;
}

const run = (verb: string, file: string, dataDir: string) => command([verb, file, "--data-dir", dataDir]);

describe("a backup of a service that runs", () => {
  test("restored into a fresh one, has everything, and its sessions go on", async () => {
    const dataDir = await dataDirOf();
    const before = new Client((await serve(dataDir)).url);
    const key = (await before.post("/keys", { name: "ci", tenant: "default" })).body["key"] as string;
    const keyed = new Client(before.base.replace("/api/v1", ""), { Authorization: `Bearer ${key}` });
    await keyed.post("/templates", {
      id: "mine",
      name: "Mine",
      image_url: "sandbox-template-python-basic:latest",
      runtime_type: "python3.11",
    });
    const session = await keyed.session({ template_id: "mine", timeout: 3600, env_vars: { A: "1" } });
    const ended = await keyed.run(
      session,
      "import os\nos.makedirs('d/e')\nopen('d/e/f.txt', 'w').write('kept')\nos.chmod('d/e/f.txt', 0o640)\nos.symlink('e/f.txt', 'd/l')\nprint('out')",
    );
    const gone = await keyed.session();
    await keyed.run(gone, "open('g.txt', 'w').write('g')");
    await keyed.post(`/sessions/${gone}/terminate`);
    const busy = await keyed.submit(
      session,
      "import time\nwhile True:\n  open('n.txt', 'a').write('x' * 10000)\n  time.sleep(0.001)",
      { timeout: 600 },
    );
    for await (const event of keyed.events(busy)) if (event.data["status"] === "running") break;

    const file = join(root, "b.tar.gz");
    const made = await run("backup", file, dataDir);
    expect([made.code, made.stderr]).toEqual([0, expect.stringContaining("b.tar.gz is written")]);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(readdirSync(root)).toEqual(["b.tar.gz"]);
    expect((await keyed.get(`/executions/${busy}`)).body["status"]).toBe("running");
    await keyed.post(`/executions/${busy}/cancel`);
    for (const server of servers.splice(0)) await server.stop();

    const fresh = join(await dataDirOf(), "new");
    const restored = await run("restore", file, fresh);
    expect([restored.code, restored.stderr]).toEqual([0, expect.stringContaining("restored")]);
    const { url } = await serve(fresh);
    const after = new Client(url, { Authorization: `Bearer ${key}` });
    expect((await new Client(url, { Authorization: "Bearer other" }).get("/sessions")).status).toBe(401);
    expect((await after.get("/templates/mine")).body["name"]).toBe("Mine");
    expect((await after.get(`/executions/${ended["id"]}`)).body).toEqual(ended);
    expect(provenOutput(await after.allEvents(ended["id"] as string), "stdout")).toBe("out\n");
    expect((await after.get(`/executions/${busy}`)).body).toMatchObject({ status: "crashed", reason: "executor_lost" });
    expect((await after.allEvents(busy)).at(-1)?.type).toBe("end");
    expect((await after.get(`/sessions/${gone}`)).body["status"]).toBe("terminated");
    expect(await (await after.raw("GET", `/sessions/${gone}/files/g.txt`)).text()).toBe("g");
    expect((await after.get(`/sessions/${session}`)).body).toMatchObject({ status: "running", env_vars: { A: "1" } });
    const code =
      "import os\nprint(open('d/l').read(), oct(os.stat('d/e/f.txt').st_mode), os.environ['A'])\nopen('d/e/f.txt', 'a').write('!')";
    expect(await after.run(session, code)).toMatchObject({ status: "completed", stdout: "kept 0o100640 1\n" });
  }, 60_000);
});

describe("a restore", () => {
  test("refuses what is no backup, a place with data and one that is in use, each in one line, and changes nothing", async () => {
    const dataDir = await dataDirOf();
    const file = join(root, "small.tar");
    const server = await serve(dataDir);
    const session = await new Client(server.url).session();
    expect((await run("backup", file, dataDir)).code).toBe(0);
    const refused = async (from: string, into: string): Promise<string> => {
      const { code, lines, stdout } = await run("restore", from, into);
      expect([code, lines.length, stdout]).toEqual([2, 1, ""]);
      return lines[0] ?? "";
    };
    expect(await refused(file, dataDir)).toContain("is in use by another sandbox serve");
    expect((await new Client(server.url).get(`/sessions/${session}`)).status).toBe(200);
    await server.stop();
    expect(await refused(file, dataDir)).toContain("has data already");
    const fresh = join(await dataDirOf(), "new");
    await writeFile(join(root, "other.tar"), "not an archive, though it has some length ".repeat(100));
    expect(await refused(join(root, "other.tar"), fresh)).toContain("other.tar");
    await writeFile(join(root, "cut.tar"), (await readFile(file)).subarray(0, 20_000));
    expect(await refused(join(root, "cut.tar"), fresh)).toContain("cut.tar");
    expect(await refused(join(root, "none.tar"), fresh)).toContain("is not there");
    expect(existsSync(join(fresh, "sandbox.db"))).toBe(false);
    expect(existsSync(fresh)).toBe(false);
    expect((await run("restore", file, fresh)).code).toBe(0);
  }, 60_000);

  test("a backup refuses what it can't write or read in one line", async () => {
    const empty = await dataDirOf();
    for (const [file, dataDir] of [
      [join(root, "x.tar"), empty],
      [join(root, "no/such/x.tar"), dataDirs[0] ?? ""],
    ] as const) {
      const { code, lines } = await run("backup", file, dataDir);
      expect([code, lines.length]).toEqual([2, 1]);
      expect(existsSync(file)).toBe(false);
    }
    expect((await command(["backup"])).code).toBe(2);
    const mysql = await command(["backup", join(root, "x.tar"), "--database-url", "mysql://u:p@h/d"]);
    expect([mysql.code, mysql.lines.length]).toEqual([2, 1]);
  });
});
