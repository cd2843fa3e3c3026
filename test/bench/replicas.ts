/**
 * What a reader on another replica than the one that leads an execution waits for. Needs KUBECONFIG, the service deployed,
 * and to run on a node: `bun test/bench/replicas.ts`.
 */
import type { Client } from "../e2e/client.ts";
import { Deployed } from "../cluster/service/deployed.ts";
import { machine, reportLatency, sample } from "./figures.ts";

const COUNT = 100;
const TICKING = `import time\nfor i in range(${COUNT * 2}):\n  print(time.time_ns(), flush=True)\n  time.sleep(0.05)`;

/** Milliseconds until the reader has the first piece of output. */
async function firstOutput(reader: Client, execution: string): Promise<void> {
  const leaving = new AbortController();
  for await (const event of reader.events(execution, { signal: leaving.signal })) if (event.type === "stdout") break;
  leaving.abort();
}

const deployed = await Deployed.find();
const [a, b] = (await deployed.replicas()).map(({ url }) => deployed.client(url));
if (a === undefined || b === undefined) throw new Error("there are no two replicas");
console.log(await machine());
const session = await a.session();

const ticking = await a.submit(session, TICKING, { timeout: 60 });
await firstOutput(b, ticking);
reportLatency("first byte to a reader on another replica", await sample(COUNT, 10, () => firstOutput(b, ticking)), 15);
await a.post(`/executions/${ticking}/cancel`);

const late: number[] = [];
const again = await a.submit(session, TICKING, { timeout: 60 });
for await (const { type, data } of b.events(again)) {
  if (type !== "stdout") continue;
  late.push(performance.timeOrigin + performance.now() - Number(String(data["text"]).trim().split("\n").at(-1)) / 1e6);
  if (late.length === COUNT) break;
}
reportLatency("from a print to a reader on another replica", late, 15);
await a.post(`/executions/${again}/cancel`);

const fresh = async (): Promise<void> => firstOutput(b, await a.submit(session, "print(1)"));
reportLatency("submit on one, first output on another", await sample(COUNT, 10, fresh));
const own = async (): Promise<void> => firstOutput(a, await a.submit(session, "print(1)"));
reportLatency("submit and first output on one", await sample(COUNT, 10, own));
await a.call("DELETE", `/sessions/${session}`);
