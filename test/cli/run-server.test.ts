import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { command, directoryOf, start, type CommandOptions } from "./command.ts";

const KEY = "secret-of-the-test";
const COUNT = 'import time\nfor i in range(150):\n    print(i, flush=True)\n    time.sleep(0.02)\nprint("done")\n';

let server: Server;
let client: Client;
let dir: string;
beforeAll(async () => {
  server = await startServer({ env: { API_KEYS: `test:${KEY}` } });
  client = new Client(server.url, { Authorization: `Bearer ${KEY}` });
  dir = await directoryOf({
    "hello.py": 'print("hello")',
    "count.py": COUNT,
    "note.py": 'open("note", "w").write("x")',
  });
});
afterAll(async () => {
  await server.stop();
  await rm(dir, { recursive: true, force: true });
});

const options = (url = server.url, key = KEY): CommandOptions => ({
  cwd: dir,
  env: { SANDBOX_URL: url, SANDBOX_API_KEY: key },
});
const liveSessions = async (): Promise<number> =>
  (await client.get("/sessions?status=running")).body["total"] as number;

/** A way to the server on which every connection breaks after this many milliseconds. */
function brittleRelay(lifeMs: number): { url: string; cuts: () => number; stop(): void } {
  let cuts = 0;
  const { hostname, port } = new URL(server.url);
  const relay = Bun.listen<{ far: Promise<Bun.Socket> }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(near) {
        const far = Bun.connect({
          hostname,
          port: Number(port),
          socket: { data: (_, bytes) => void near.write(bytes), close: () => void near.end() },
        });
        near.data = { far };
        setTimeout(() => {
          cuts++;
          near.terminate();
        }, lifeMs);
      },
      async data(near, bytes) {
        (await near.data.far).write(bytes);
      },
      async close(near) {
        (await near.data.far).end();
      },
    },
  });
  return { url: `http://127.0.0.1:${relay.port}`, cuts: () => cuts, stop: () => relay.stop(true) };
}

describe("a service that was named", () => {
  test("runs the program, and the session is gone afterwards", async () => {
    const { code, stdout, stderr } = await command(["run", "hello.py"], options());
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "hello\n", stderr: "" });
    expect(await liveSessions()).toBe(0);
  });

  test("by a flag, rather than by the variable", async () => {
    const args = ["run", "--server", `${server.url}/`, "hello.py"];
    expect((await command(args, options("http://127.0.0.1:1"))).stdout).toBe("hello\n");
    for (const base of ["/api/v1", "/api/v1/"])
      expect((await command(["run", "hello.py"], options(`${server.url}${base}`))).stdout).toBe("hello\n");
  });

  test("runs in a session that is there, and leaves it", async () => {
    const session = await client.session();
    expect((await command(["run", "--session", session, "note.py"], options())).code).toBe(0);
    expect((await client.get(`/sessions/${session}/files`)).body["count"]).toBe(1);
    await client.call("DELETE", `/sessions/${session}`);
  });

  test("keeps a new session when asked to", async () => {
    const { lines } = await command(["run", "--keep", "hello.py"], options());
    const session = /session (\S+) is kept/.exec(lines[0] ?? "")?.[1] ?? "";
    expect((await client.get(`/sessions/${session}`)).body["status"]).toBe("running");
    await client.call("DELETE", `/sessions/${session}`);
  });

  test("cancels at Ctrl-C and deletes the session", async () => {
    const child = start(["run", "count.py"], options());
    await child.wroteSomething;
    child.kill("SIGINT");
    expect((await child.ended).code).toBe(130);
    expect(await liveSessions()).toBe(0);
  });

  test("over a connection that breaks again and again, loses and doubles nothing", async () => {
    const relay = brittleRelay(300);
    const { code, stdout } = await command(["run", "count.py"], options(relay.url));
    relay.stop();
    const expected = Array.from({ length: 150 }, (_, index) => `${index}\n`).join("");
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${expected}done\n` });
    expect(relay.cuts()).toBeGreaterThan(5);
  });
});

describe("one line and 125", () => {
  test.each([
    ["nobody listens", "http://127.0.0.1:1", KEY, "is sandbox serve running there?"],
    ["the key is wrong", null, "wrong", "SANDBOX_API_KEY"],
    ["there is no key", null, "", "SANDBOX_API_KEY"],
  ])("when %s", async (_, url, key, hint) => {
    const { code, stdout, lines } = await command(["run", "hello.py"], options(url ?? server.url, key));
    expect({ code, stdout, lines: lines.length }).toEqual({ code: 125, stdout: "", lines: 1 });
    expect(lines[0]).toContain(hint);
  });

  test("when the template or the session is unknown", async () => {
    for (const args of [
      ["--template", "nope"],
      ["--session", "nope"],
    ]) {
      const { code, lines } = await command(["run", ...args, "hello.py"], options());
      expect({ code, lines: lines.length }).toEqual({ code: 125, lines: 1 });
      expect(lines[0]).toContain("nope");
    }
  });

  test("when something else answers", async () => {
    const other = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("hi", { status: 404 }) });
    const { code, lines } = await command(["run", "hello.py"], options(other.url.href));
    await other.stop(true);
    expect({ code, lines: lines.length }).toEqual({ code: 125, lines: 1 });
    expect(lines[0]).toContain("no sandbox service");
  });
});
