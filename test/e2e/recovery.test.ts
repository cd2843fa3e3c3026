import { afterEach, describe, expect, test } from "bun:test";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client, provenOutput, type StreamEvent } from "./client.ts";
import { endExecutor, newDataDir, startServer, type Server } from "./server.ts";

const servers: Server[] = [];
const dataDirs: string[] = [];
async function start(options: Parameters<typeof startServer>[0] = {}): Promise<Server> {
  const server = await startServer(options);
  servers.push(server);
  return server;
}

afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
  for (const dir of dataDirs.splice(0)) {
    await endExecutor(dir);
    await rm(dir, { recursive: true, force: true });
  }
});

const COUNTING = "import time\nfor i in range(300):\n  print(i, flush=True)\n  time.sleep(0.01)";
const COUNTED = Array.from({ length: 300 }, (_, i) => `${i}\n`).join("");

/** A program that counts in a service of its own, and the first events that a reader has seen of it. */
async function counting(dataDir: string) {
  const server = await startServer({ dataDir });
  const client = new Client(server.url);
  const session = await client.session();
  const execution = await client.submit(session, COUNTING);
  const seen: StreamEvent[] = [];
  for await (const event of client.events(execution)) {
    seen.push(event);
    if (seen.length === 20) break;
  }
  return { server, session, execution, seen };
}

async function firstOutput(client: Client, execution: string): Promise<void> {
  for await (const event of client.events(execution)) if (event.type === "stdout") return;
}

describe("the executor is killed in mid-run", () => {
  test("its executions end crashed within 20 s and the session recovers", async () => {
    const server = await start();
    const client = new Client(server.url);
    const session = await client.session();
    await client.run(session, "open('kept.txt','w').write('kept')");
    const execution = await client.submit(session, "print('up', flush=True)\nimport time; time.sleep(60)");
    await firstOutput(client, execution);
    const killedAt = performance.now();
    process.kill(await server.executorPid(), "SIGKILL");
    const events = await client.allEvents(execution).catch(() => [] as StreamEvent[]);
    const ended = (await client.get(`/executions/${execution}`)).body;
    expect(performance.now() - killedAt).toBeLessThan(20_000);
    expect(ended).toMatchObject({ status: "crashed", reason: "executor_lost", exit_code: null, stdout: "up\n" });
    if (events.length > 0) expect(events.at(-1)?.type).toBe("end");
    expect(await client.run(session, "print(open('kept.txt').read())")).toMatchObject({
      status: "completed",
      stdout: "kept\n",
    });
  }, 40_000);

  test("nothing of its sandboxes is left running", async () => {
    const server = await start();
    const client = new Client(server.url);
    const session = await client.session();
    const marker = `9${Math.floor(Math.random() * 1e6)}.25`;
    const execution = await client.submit(session, `setsid sleep ${marker} & echo up; sleep ${marker}`, {
      language: "shell",
    });
    await firstOutput(client, execution);
    process.kill(await server.executorPid(), "SIGKILL");
    const end = performance.now() + 5000;
    let left = "?";
    while (left !== "" && performance.now() < end) {
      left = await new Response(Bun.spawn(["pgrep", "-f", `^sleep ${marker}`]).stdout).text();
      if (left !== "") await Bun.sleep(50);
    }
    expect(left).toBe("");
  }, 20_000);
});

describe("the machine loses its power in mid-run", () => {
  /** What a file system may leave of the last lines: a part, blocks that were never written, or both. */
  const DAMAGES: [string, (journal: Buffer) => Buffer][] = [
    ["cut in a line", (journal) => journal.subarray(0, journal.length - 7)],
    [
      "with zeros in place of the last lines",
      (journal) => Buffer.concat([journal.subarray(0, -50), Buffer.alloc(4096)]),
    ],
    [
      "with bytes of another file",
      (journal) => Buffer.concat([journal, Buffer.from('7 stdout {"text":"fo\n99 end {}\n')]),
    ],
  ];

  test.each(DAMAGES)(
    "a journal %s keeps its whole events and ends crashed",
    async (_name, damage) => {
      const dataDir = await newDataDir();
      dataDirs.push(dataDir);
      const { server: first, session, execution } = await counting(dataDir);
      const executor = await first.executorPid();
      first.process.kill("SIGKILL");
      process.kill(executor, "SIGKILL");
      await first.process.exited;
      const path = join(dataDir, "journals", session, `${execution}.journal`);
      const damaged = damage(await readFile(path));
      await writeFile(path, damaged);

      const client = new Client((await start({ dataDir })).url);
      const events = await client.allEvents(execution);
      const text = provenOutput(events, "stdout");
      expect(COUNTED).toStartWith(text);
      expect(text.split("\n").length).toBeGreaterThan(15);
      const whole = damaged.toString("latin1").split("\n").slice(0, -1);
      expect(events.length).toBeGreaterThanOrEqual(Math.min(whole.length - 2, 20));
      expect(events.at(-1)?.data).toMatchObject({ status: "crashed", reason: "executor_lost", exit_code: null });
      expect((await client.get(`/executions/${execution}`)).body).toMatchObject({ status: "crashed", stdout: text });
      expect((await client.run(session, "print('on')"))["stdout"]).toBe("on\n");
    },
    30_000,
  );
});

describe("the control plane is killed in mid-run and started again", () => {
  test("the run goes on and not one byte is missing or doubled", async () => {
    const dataDir = await newDataDir();
    dataDirs.push(dataDir);
    const { server: first, session, execution, seen } = await counting(dataDir);
    first.process.kill("SIGKILL");
    await first.process.exited;
    const second = await start({ dataDir });
    const after = new Client(second.url);
    for await (const event of after.events(execution, { after: seen.length })) seen.push(event);
    expect(provenOutput(seen, "stdout")).toBe(COUNTED);
    expect(seen.at(-1)?.data["status"]).toBe("completed");
    expect((await after.get(`/executions/${execution}`)).body).toMatchObject({ status: "completed", stdout: COUNTED });
    expect((await after.run(session, "print('same sandbox')"))["stdout"]).toBe("same sandbox\n");
  }, 30_000);

  test("what ended while it was away is stored", async () => {
    const dataDir = await newDataDir();
    dataDirs.push(dataDir);
    const first = await startServer({ dataDir });
    const before = new Client(first.url);
    const session = await before.session();
    const execution = await before.submit(session, "print('a', flush=True)\nimport time; time.sleep(0.5); print('b')");
    await firstOutput(before, execution);
    first.process.kill("SIGKILL");
    await first.process.exited;
    const second = await start({ dataDir });
    const events = await new Client(second.url).allEvents(execution);
    expect(provenOutput(events, "stdout")).toBe("a\nb\n");
    const row = (await new Client(second.url).get(`/executions/${execution}`)).body;
    expect(row).toMatchObject({ status: "completed", stdout: "a\nb\n" });
  }, 30_000);
});
