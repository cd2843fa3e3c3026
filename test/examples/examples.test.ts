import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Socket } from "bun";
import { Client, provenOutput, type StreamEvent } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";

const KEY = "key-of-the-examples";
const ROOT = join(import.meta.dir, "../..");
/** Bytes after which a connection is cut: a few events, and in the middle of one. */
const CUT_AFTER = 2500;
const CUTS = 2;

/** Passes connections on to a server and cuts the first ones off after so many bytes of answer. */
class Cutter {
  readonly url: string;
  cuts = 0;
  readonly #listener;

  constructor(target: string) {
    const { hostname, port } = new URL(target);
    type Link = { server: Promise<Socket<Link>>; left: number };
    this.#listener = Bun.listen<Link>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (client) => {
          const upstream = Promise.withResolvers<Socket<Link>>();
          client.data = { server: upstream.promise, left: CUT_AFTER };
          void Bun.connect<Link>({
            hostname,
            port: Number(port),
            data: client.data,
            socket: {
              open: (server) => upstream.resolve(server),
              data: (_server, bytes) => this.#pass(client, bytes),
              close: () => void client.end(),
            },
          });
        },
        data: (client, bytes) => void client.data.server.then((server) => server.write(bytes.slice())),
        close: (client) => void client.data.server.then((server) => server.end()),
      },
    });
    this.url = `http://127.0.0.1:${this.#listener.port}`;
  }

  #pass(client: Socket<{ left: number }>, bytes: Uint8Array): void {
    if (this.cuts >= CUTS) return void client.write(bytes);
    client.write(bytes.subarray(0, Math.max(0, client.data.left)));
    client.data.left -= bytes.length;
    if (client.data.left > 0) return;
    this.cuts++;
    client.end();
  }

  stop(): void {
    this.#listener.stop(true);
  }
}

let open: Server;
let keyed: Server;
beforeAll(async () => {
  [open, keyed] = await Promise.all([startServer(), startServer({ env: { API_KEYS: `examples:${KEY}` } })]);
});
afterAll(() => Promise.all([open.stop(), keyed.stop()]));

const PROGRAM = `import sys, time
for i in range(60):
    print(f"line {i} é", flush=True)
    time.sleep(0.01)
print("careful", file=sys.stderr)
sys.exit(3)`;
const STDOUT = Array.from({ length: 60 }, (_, i) => `line ${i} é\n`).join("");

/** Runs an example on a live execution behind a proxy that cuts it off. */
async function follow(server: Server, command: string[], execution?: string) {
  const client = new Client(server.url, { "X-API-Key": KEY });
  const id = execution ?? (await client.submit(await client.session(), PROGRAM));
  const cutter = new Cutter(server.url);
  const { SANDBOX_KEY: _, ...env } = process.env;
  const child = Bun.spawn([...command, cutter.url, id], {
    cwd: ROOT,
    env: { ...env, ...(server === keyed ? { SANDBOX_KEY: KEY } : {}) },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const code = await child.exited;
  const { cuts } = cutter;
  cutter.stop();
  return { code, stdout, stderr, cuts };
}

const FETCH = [process.execPath, "test/examples/follow-fetch.ts"];
const EVENT_SOURCE = [
  process.execPath,
  "--preload",
  "./test/examples/eventsource.ts",
  "test/examples/follow-eventsource.ts",
];
const PYTHON = ["/usr/bin/python3", "test/examples/follow.py"];
const CURL = ["bash", "test/examples/follow.sh"];

describe("an example goes on where it was cut, with nothing missing or doubled", () => {
  for (const [name, command] of Object.entries({ "follow-fetch.ts": FETCH, "follow.py": PYTHON }))
    test(name, async () => {
      expect(await follow(keyed, command)).toEqual({ code: 3, stdout: STDOUT, stderr: "careful\n", cuts: CUTS });
    });

  test("follow-eventsource.ts", async () => {
    const { code, stdout, stderr, cuts } = await follow(open, EVENT_SOURCE);
    expect({ code, stdout, cuts }).toEqual({ code: 3, stdout: STDOUT, cuts: CUTS });
    expect(stderr).toContain("careful\n");
  });

  test("follow.sh", async () => {
    const { code, stdout, stderr, cuts } = await follow(keyed, CURL);
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as StreamEvent);
    expect({ code, cuts, output: provenOutput(events, "stdout") }).toEqual({ code: 0, cuts: CUTS, output: STDOUT });
    expect(events.at(-1)).toMatchObject({ type: "end", data: { exit_code: 3 } });
    expect(stderr).not.toContain("22");
  });
});

describe("an example says so when it is refused, and ends", () => {
  for (const [name, command] of Object.entries({ "follow-fetch.ts": FETCH, "follow.py": PYTHON, "follow.sh": CURL }))
    test(name, async () => {
      const { code, stdout, stderr } = await follow(keyed, command, "exec_none");
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toMatch(/execution_not_found|404/);
    });
});

describe("an example that is called wrongly says how, and ends", () => {
  const commands = {
    "follow-fetch.ts": FETCH,
    "follow-eventsource.ts": EVENT_SOURCE,
    "follow.py": PYTHON,
    "follow.sh": CURL,
  };
  for (const [name, command] of Object.entries(commands))
    test(name, async () => {
      const child = Bun.spawn([...command, "http://127.0.0.1:1"], { cwd: ROOT, stdout: "pipe", stderr: "pipe" });
      const [stdout, stderr] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      expect({ code: await child.exited, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toMatch(/^usage: .+ URL EXECUTION\n$/);
    });
});
