import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mariaDbMissing } from "../services.ts";
import { Client, provenOutput, type StreamEvent } from "./client.ts";
import { startReplicas, type Replicas } from "./replicas.ts";
import type { Server } from "./server.ts";

const COUNTING = "import time\nfor i in range(40):\n  print(i, flush=True)\n  time.sleep(0.1)";
const COUNTED = Array.from({ length: 40 }, (_, i) => `${i}\n`).join("");

describe.skipIf(mariaDbMissing !== null)(mariaDbMissing ?? "three replicas on one database", () => {
  let replicas: Replicas;
  let stays: Server;
  let third: Server;
  beforeAll(async () => {
    replicas = await startReplicas();
    stays = await replicas.start();
    third = await replicas.start();
  }, 60_000);
  afterAll(() => replicas.stop(), 60_000);

  /** Submits to a replica of its own, reads its first output there, ends it, and reads the rest from the one that stays. */
  async function readAcross(
    end: (leader: Server) => void,
  ): Promise<{ events: StreamEvent[]; client: Client; id: string }> {
    const leader = await replicas.start();
    const client = new Client(leader.url);
    const id = await client.submit(await client.session(), COUNTING);
    const events: StreamEvent[] = [];
    const reading = (async () => {
      for await (const event of client.events(id)) {
        events.push(event);
        if (event.type === "stdout" && events.length === 5) end(leader);
      }
    })().catch(() => {});
    await reading;
    await leader.process.exited;
    const other = new Client(stays.url);
    for await (const event of other.events(id, { after: events.at(-1)?.seq ?? 0 })) events.push(event);
    return { events, client: other, id };
  }

  test("work is submitted to one, followed on another and cancelled on a third", async () => {
    const [a, b, c] = [await replicas.start(), stays, third].map((server) => new Client(server.url)) as [
      Client,
      Client,
      Client,
    ];
    const session = await a.session();
    const id = await a.submit(session, "import time\nprint('up', flush=True)\ntime.sleep(60)");
    const events: StreamEvent[] = [];
    for await (const event of b.events(id)) {
      events.push(event);
      if (event.type === "stdout") expect((await c.post(`/executions/${id}/cancel`)).body["status"]).toBe("cancelled");
    }
    expect(provenOutput(events, "stdout")).toBe("up\n");
    expect(events.at(-1)).toMatchObject({ type: "end", data: { status: "cancelled" } });
    expect((await a.get(`/executions/${id}`)).body["status"]).toBe("cancelled");
    expect((await c.post(`/sessions/${session}/terminate`)).body["status"]).toBe("terminated");
    expect((await a.post(`/sessions/${session}/executions`, { language: "shell", code: "true" })).status).toBe(409);
  }, 30_000);

  test("the leader is told to end: another takes its work over at once, and readers miss nothing", async () => {
    const toldAt: number[] = [];
    const { events, client, id } = await readAcross((leader) => {
      toldAt.push(performance.now());
      leader.process.kill("SIGTERM");
    });
    expect(provenOutput(events, "stdout")).toBe(COUNTED);
    expect(events.at(-1)).toMatchObject({ type: "end", data: { status: "completed" } });
    expect((await client.get(`/executions/${id}`)).body).toMatchObject({ status: "completed", stdout: COUNTED });
    // The program takes 4 s; a lease that was not handed over would take 15.
    expect(performance.now() - (toldAt[0] ?? 0)).toBeLessThan(9000);
  }, 40_000);

  test("the leader is killed: another takes its work when the lease ends, and readers miss nothing", async () => {
    const { events, client, id } = await readAcross((leader) => leader.process.kill("SIGKILL"));
    expect(provenOutput(events, "stdout")).toBe(COUNTED);
    expect(events.at(-1)).toMatchObject({ type: "end", data: { status: "completed" } });
    expect((await client.get(`/executions/${id}`)).body).toMatchObject({ status: "completed", stdout: COUNTED });
  }, 40_000);

  test("the leader is killed: a cancellation elsewhere waits for no lease, and says that it is cancelled", async () => {
    const leader = await replicas.start();
    const client = new Client(leader.url);
    const id = await client.submit(await client.session(), "import time\nprint('up', flush=True)\ntime.sleep(60)");
    for await (const event of client.events(id)) if (event.type === "stdout") break;
    leader.process.kill("SIGKILL");
    await leader.process.exited;
    const { status, body } = await new Client(stays.url).post(`/executions/${id}/cancel`);
    expect([status, body["status"], body["stdout"]]).toEqual([200, "cancelled", "up\n"]);
    expect((await new Client(third.url).post(`/executions/${id}/cancel`)).body).toEqual(body);
  }, 40_000);

  test("what nobody reads is taken over too, and none of it runs twice", async () => {
    const leader = await replicas.start();
    const client = new Client(leader.url);
    const session = await client.session();
    const code = (name: number): string => `echo run >> runs-${name}; sleep 2; wc -l < runs-${name}`;
    const ids: string[] = [];
    for (let name = 0; name < 12; name++) ids.push(await client.submit(session, code(name), { language: "shell" }));
    leader.process.kill("SIGTERM");
    expect(await leader.process.exited).toBe(0);
    const ends = await Promise.all(ids.map((id) => new Client(third.url).allEvents(id)));
    for (const events of ends) {
      expect(provenOutput(events, "stdout")).toBe("1\n");
      expect(events.at(-1)?.data).toMatchObject({ status: "completed" });
    }
  }, 40_000);
});
