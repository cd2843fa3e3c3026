import { describe, expect, test } from "bun:test";
import type { Client, StreamEvent } from "../../e2e/client.ts";
import { eventually, kubectl, SYSTEM } from "../cluster.ts";
import { killPod, rolledOut, type Deployed } from "./deployed.ts";
import { persist, proven, readToEnd, type Seen } from "./reader.ts";

const SESSIONS = 5;
const EXECUTIONS = 8;
/** Two clients read some of the executions. */
const STREAMS = 50;
const LINES = 60;
const CODE = `import time\nfor i in range(${LINES}):\n  print(i, flush=True)\n  time.sleep(0.25)`;
const PRINTED = Array.from({ length: LINES }, (_, i) => `${i}\n`).join("");
const SMALL = { template_id: "python-basic", cpu: "0.5", memory: "128Mi", disk: "128Mi" };
const RUNTIME = ["-n", "sandbox-runtime"];

type Running = { sessions: string[]; sessionOf: Map<string, string>; reads: { id: string; seen: Promise<Seen> }[] };

/** Sessions whose executions are being read by clients that all have seen output. */
async function startStreams(client: Client): Promise<Running> {
  const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => client.session(SMALL)));
  const sessionOf = new Map<string, string>();
  for (const session of sessions)
    for (let i = 0; i < EXECUTIONS; i++) sessionOf.set(await client.submit(session, CODE), session);
  const ids = [...sessionOf.keys()];
  const started: Promise<void>[] = [];
  const reads = Array.from({ length: STREAMS }, (_, i) => {
    const id = ids[i % ids.length] ?? "";
    const first = Promise.withResolvers<void>();
    started.push(first.promise);
    const onEvent = ({ type }: StreamEvent): void => (type === "stdout" ? first.resolve() : undefined);
    return { id, seen: readToEnd(client, id, onEvent) };
  });
  await Promise.race([Promise.all(started), Promise.all(reads.map(({ seen }) => seen))]);
  return { sessions, sessionOf, reads };
}

/** Submits small executions until told to stop; each that was acknowledged must run, and once. */
function submitAllAlong(client: Client, session: string): { stop(): Promise<string[]> } {
  let isStopping = false;
  const done = (async () => {
    const ids: string[] = [];
    while (!isStopping) {
      const n = ids.length;
      const body = { language: "shell", code: `echo run >> runs-${n}; wc -l < runs-${n}` };
      const headers = { "Idempotency-Key": `small-${n}` };
      const { status, body: answer } = await persist(() =>
        client.post(`/sessions/${session}/executions`, body, headers),
      );
      if (status === 201) ids.push(String(answer["id"]));
      await Bun.sleep(250);
    }
    return ids;
  })();
  done.catch(() => {});
  return {
    stop: () => {
      isStopping = true;
      return done;
    },
  };
}

/** Every byte came once and in order, and the record says the same. */
async function expectWhole(client: Client, { id, seen }: Running["reads"][number]): Promise<number> {
  const one = await seen;
  expect({ id, ...proven(one) }).toEqual({ id, stdout: PRINTED, status: "completed" });
  const { body } = await persist(() => client.get(`/executions/${id}`));
  expect(body).toMatchObject({ status: "completed", stdout: PRINTED, exit_code: 0 });
  return one.cuts;
}

async function expectAllRan(client: Client, ids: string[]): Promise<void> {
  for (const id of ids) {
    const seen = await readToEnd(client, id);
    expect({ id, ...proven(seen) }).toEqual({ id, stdout: "1\n", status: "completed" });
  }
}

async function podOf(app: string): Promise<string> {
  const name = await kubectl([
    "get",
    "pods",
    "-l",
    `app=${app}`,
    ...SYSTEM,
    "-o",
    "jsonpath={.items[0].metadata.name}",
  ]);
  expect(name).toStartWith(app);
  return name;
}

/** What a cluster survives while clients read 50 streams and submit work. */
export function describeKills(deployed: () => Deployed): void {
  describe(`while ${STREAMS} streams are being read, the death of`, () => {
    test.each(["a replica", "MariaDB", "MinIO"])(
      "%s costs not one byte and nothing that was acknowledged",
      async (what) => {
        const client = deployed().client();
        const running = await startStreams(client);
        const small = submitAllAlong(client, await client.session(SMALL));
        if (what === "a replica") await killPod((await deployed().replicas())[0]?.name ?? "");
        else await killPod(await podOf(what.toLowerCase()));
        let cuts = 0;
        for (const read of running.reads) cuts += await expectWhole(client, read);
        await rolledOut(what === "a replica" ? "sandbox-control-plane" : what.toLowerCase());
        const ids = await small.stop();
        expect(ids.length).toBeGreaterThan(10);
        await expectAllRan(client, ids);
        if (what === "a replica") expect(cuts).toBeGreaterThan(0);
        for (const session of running.sessions) await persist(() => client.call("DELETE", `/sessions/${session}`));
      },
      240_000,
    );

    test("an executor's Pod ends its executions as crashed within 20 s, and the session goes on; others notice nothing", async () => {
      const client = deployed().client();
      const running = await startStreams(client);
      const [victim = ""] = running.sessions;
      const pod = String((await client.get(`/sessions/${victim}`)).body["pod_name"]);
      await killPod(pod, RUNTIME);
      const killedAt = performance.now();
      for (const read of running.reads) {
        if (running.sessionOf.get(read.id) !== victim) continue;
        const { stdout, status } = proven(await read.seen);
        expect([status, PRINTED.startsWith(stdout), stdout === ""]).toEqual(["crashed", true, false]);
        // The record has what was read of the output, and whoever comes late reads that.
        const { body } = await client.get(`/executions/${read.id}`);
        expect([PRINTED.startsWith(body["stdout"] as string), body["stdout"] === ""]).toEqual([true, false]);
        expect(proven(await readToEnd(client, read.id))).toEqual({ stdout: body["stdout"], status: "crashed" });
      }
      expect(performance.now() - killedAt).toBeLessThan(20_000);
      const again = await eventually("the session runs code", 30, async () => {
        const answer = await client.post(`/sessions/${victim}/executions?wait=20`, {
          language: "shell",
          code: "echo up",
        });
        return answer.body["status"] === "completed" ? answer.body : null;
      });
      expect(again["stdout"]).toBe("up\n");
      for (const read of running.reads) if (running.sessionOf.get(read.id) !== victim) await expectWhole(client, read);
      for (const session of running.sessions) await client.call("DELETE", `/sessions/${session}`);
    }, 240_000);
  });
}
