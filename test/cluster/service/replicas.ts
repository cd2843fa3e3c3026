import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { provenOutput, type Client, type StreamEvent } from "../../e2e/client.ts";
import { kubectl, SYSTEM } from "../cluster.ts";
import { rolledOut, type Deployed } from "./deployed.ts";

const READERS = 40;

/** Any replica serves any request, whichever of them leads the work. */
export function describeReplicas(deployed: () => Deployed): void {
  describe("three replicas", () => {
    let clients: [Client, Client, Client];
    let session: string;
    beforeAll(async () => {
      await kubectl(["scale", "deployment/sandbox-control-plane", "--replicas=3", ...SYSTEM]);
      await rolledOut("sandbox-control-plane");
      const [a, b, c] = (await deployed().replicas()).map(({ url }) => deployed().client(url));
      if (a === undefined || b === undefined || c === undefined) throw new Error("there are no three replicas");
      clients = [a, b, c];
      session = await a.session();
    }, 120_000);
    afterAll(async () => {
      await clients[0].call("DELETE", `/sessions/${session}`);
    });

    test("work is submitted to one, followed on another and cancelled on a third", async () => {
      const [a, b, c] = clients;
      const id = await a.submit(session, "import time\nprint('up', flush=True)\ntime.sleep(60)");
      const events: StreamEvent[] = [];
      for await (const event of b.events(id)) {
        events.push(event);
        if (event.type === "stdout")
          expect((await c.post(`/executions/${id}/cancel`)).body["status"]).toBe("cancelled");
      }
      expect(provenOutput(events, "stdout")).toBe("up\n");
      expect(events.at(-1)).toMatchObject({ type: "end", data: { status: "cancelled" } });
      expect((await a.get(`/executions/${id}`)).body["status"]).toBe("cancelled");
    }, 30_000);

    test("what one of them made the others know at once", async () => {
      const [a, b, c] = clients;
      const made = await b.session();
      expect((await c.run(made, "open('note.txt', 'w').write('kept')"))["status"]).toBe("completed");
      expect(await (await a.raw("GET", `/sessions/${made}/files/note.txt`)).text()).toBe("kept");
      expect((await a.post(`/sessions/${made}/terminate`)).body["status"]).toBe("terminated");
      for (const client of clients)
        expect((await client.post(`/sessions/${made}/executions`, { language: "shell", code: "true" })).status).toBe(
          409,
        );
      expect((await b.call("DELETE", `/sessions/${made}`)).status).toBe(204);
      for (const client of clients) expect((await client.get(`/sessions/${made}`)).status).toBe(404);
    }, 60_000);

    test("an execution that was submitted to one this moment can be followed on another", async () => {
      const [a, b] = clients;
      for (let i = 0; i < READERS; i++) {
        const id = await a.submit(session, "print('here')");
        const events = await b.allEvents(id);
        expect(provenOutput(events, "stdout")).toBe("here\n");
        expect(events.at(-1)?.data["status"]).toBe("completed");
      }
    }, 60_000);
  });
}
