/** Figures of the edge, over HTTP against the compiled executable: `bun test/bench/edge.ts`. */
import { Client, type StreamEvent } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { machine, report, reportLatency, sample } from "./figures.ts";

async function residentMb(pid: number): Promise<number> {
  const rollup = await Bun.file(`/proc/${pid}/smaps_rollup`).text();
  return Number(/^Rss:\s+(\d+) kB/m.exec(rollup)?.[1]) / 1000;
}

/** Proportional set size of the processes in `pids`, in MB. */
async function proportionalMb(pids: number[]): Promise<number> {
  const sizes = await Promise.all(
    pids.map(async (pid) => {
      const rollup = await Bun.file(`/proc/${pid}/smaps_rollup`)
        .text()
        .catch(() => "");
      return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) / 1000;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function descendants(root: number): Promise<number[]> {
  const children = new Map<number, number[]>();
  for await (const stat of new Bun.Glob("[0-9]*/stat").scan({ cwd: "/proc", onlyFiles: false })) {
    const text = await Bun.file(`/proc/${stat}`)
      .text()
      .catch(() => "");
    const parent = Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(stat.split("/")[0])]);
  }
  const found: number[] = [];
  const open = [root];
  for (let pid = open.pop(); pid !== undefined; pid = open.pop()) {
    for (const child of children.get(pid) ?? []) {
      found.push(child);
      open.push(child);
    }
  }
  return found;
}

async function latency(client: Client): Promise<void> {
  const session = await client.session();
  const path = `/executions/sessions/${session}/execute-sync`;
  const sync = (language: string, code: string) => async (): Promise<void> => {
    const { status, body } = await client.post(path, { language, code });
    if (status !== 200 || body["status"] !== "completed") throw new Error(`${status} ${JSON.stringify(body)}`);
  };
  reportLatency(
    "Python handler, execute-sync",
    await sample(500, 50, sync("python", "def handler(e): return 1")),
    3,
    15,
  );
  reportLatency("shell, execute-sync", await sample(300, 20, sync("shell", "echo hi")), 6);
  reportLatency(
    "JavaScript handler, execute-sync",
    await sample(200, 20, sync("javascript", "function handler() { return 1 }")),
    8,
  );
  await client.raw("DELETE", `/sessions/${session}`);
}

async function sessions(client: Client): Promise<void> {
  const made: string[] = [];
  const cold = await sample(60, 5, async () => {
    const { body } = await client.post("/sessions", { template_id: "python-basic" });
    made.push(body["id"]);
    const execution = await client.submit(body["id"], "print('x')");
    for await (const event of client.events(execution)) if (event.type === "stdout") break;
  });
  reportLatency("session: create to first output, cold", cold, 60);
  await Promise.all(made.map((id) => client.raw("DELETE", `/sessions/${id}`)));
}

/** Creates from a pool that is full each time. */
async function warm(client: Client): Promise<void> {
  const template = {
    id: "bench-warm",
    name: "Bench",
    image_url: "sandbox-template-python-basic",
    runtime_type: "python3.11",
  };
  await client.post("/templates", { ...template, warm_pool_size: 10 });
  const full = async (): Promise<void> => {
    while (
      !(await (await fetch(`${client.base}/../../metrics`)).text()).includes(
        'sandbox_warm_pool_size{template="bench-warm"} 10',
      )
    )
      await Bun.sleep(20);
  };
  const samples: number[] = [];
  for (let round = 0; round < 8; round++) {
    await full();
    await Bun.sleep(300);
    for (let i = 0; i < 8; i++) {
      const started = performance.now();
      const { body } = await client.post("/sessions", { template_id: "bench-warm" });
      const execution = await client.submit(body["id"], "print('x')");
      for await (const event of client.events(execution)) if (event.type === "stdout") break;
      samples.push(performance.now() - started);
      void client.raw("DELETE", `/sessions/${body["id"]}`);
    }
  }
  reportLatency("session: create to first output, warm", samples, 12, 40);
  await client.call("PUT", "/templates/bench-warm", { warm_pool_size: 0 });
}

async function throughput(client: Client): Promise<void> {
  const seconds = 15;
  const ids = await Promise.all(Array.from({ length: 16 }, () => client.session()));
  const end = performance.now() + seconds * 1000;
  let done = 0;
  let failed = 0;
  await Promise.all(
    ids.map(async (session) => {
      while (performance.now() < end) {
        const { status, body } = await client.post(`/executions/sessions/${session}/execute-sync`, {
          language: "python",
          code: "def handler(e): return 1",
        });
        if (status === 200 && body["status"] === "completed") done++;
        else failed++;
      }
    }),
  );
  report("16 clients, 15 s: Python executions a second", done / seconds, "/s", { least: 400 });
  report("16 clients, 15 s: failed", failed, "", { most: 0 });
  await Promise.all(ids.map((id) => client.raw("DELETE", `/sessions/${id}`)));
}

/** From the child's write to the client's read, one clock: the program prints the monotonic time that it writes at. */
async function streamDelay(client: Client): Promise<void> {
  const session = await client.session();
  const code = "import time\nfor i in range(300):\n  print(time.time_ns(), flush=True)\n  time.sleep(0.02)";
  const execution = await client.submit(session, code);
  const delays: number[] = [];
  for await (const event of client.events(execution)) {
    const now = performance.timeOrigin + performance.now();
    if (event.type === "stdout") delays.push(now - Number(event.data["text"].trim().split("\n")[0]) / 1e6);
  }
  reportLatency("child's write to SSE client's read", delays, 4);
  await client.raw("DELETE", `/sessions/${session}`);
}

async function bulk(client: Client): Promise<void> {
  const session = await client.session();
  const rates: number[] = [];
  for (let round = 0; round < 3; round++) {
    const started = performance.now();
    const response = await client.raw(
      "POST",
      `/sessions/${session}/executions`,
      JSON.stringify({ language: "shell", code: "head -c 100000000 /dev/zero | tr '\\0' x", timeout: 60 }),
      { "Content-Type": "application/json", Accept: "application/x-ndjson" },
    );
    const id = response.headers.get("Location")?.split("/").at(-1) ?? ((await response.json()) as { id: string }).id;
    const stream = await client.raw("GET", `/executions/${id}/events`, undefined, { Accept: "application/x-ndjson" });
    let bytes = 0;
    for await (const chunk of stream.body ?? []) bytes += chunk.length;
    rates.push(bytes / 1e6 / ((performance.now() - started) / 1000));
  }
  report("100 MB of stdout to an NDJSON reader", rates.toSorted((a, b) => a - b)[1] ?? 0, "MB/s", { least: 60 });
  await client.raw("DELETE", `/sessions/${session}`);
}

async function footprint(server: Server, client: Client): Promise<void> {
  report("control plane resident after this load", await residentMb(server.process.pid), "MB");
  const executor = await server.executorPid();
  const before = await proportionalMb(await descendants(executor));
  const create: number[] = [];
  const ids: string[] = [];
  for (let i = 0; i < 200; i++) {
    const started = performance.now();
    ids.push(await client.session());
    create.push(performance.now() - started);
  }
  const after = await proportionalMb(await descendants(executor));
  report("200 idle sessions: PSS of each", (after - before) / 200, "MB", { most: 10 });
  reportLatency("create, the first 50", create.slice(0, 50));
  reportLatency("create, with 150 to 200 there", create.slice(150));
  await Promise.all(ids.map((id) => client.raw("DELETE", `/sessions/${id}`)));
}

async function burst(client: Client): Promise<void> {
  const started = performance.now();
  const firsts = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const { body } = await client.post("/sessions", { template_id: "python-basic" });
      const execution = await client.submit(body["id"], "print('x')");
      let first: StreamEvent | undefined;
      for await (const event of client.events(execution)) {
        first = event;
        if (event.type === "stdout") break;
      }
      return { id: body["id"] as string, ok: first?.type === "stdout", at: performance.now() - started };
    }),
  );
  report("100 sessions in a burst: all first outputs after", Math.max(...firsts.map((one) => one.at)), "ms", {
    most: 2500,
  });
  report("100 sessions in a burst: failed", firsts.filter((one) => !one.ok).length, "", { most: 0 });
  await Promise.all(firsts.map(({ id }) => client.raw("DELETE", `/sessions/${id}`)));
}

console.log(await machine());
const startedAt = performance.now();
const server = await startServer();
const client = new Client(server.url);
while (!(await fetch(`${server.url}/readyz`)).ok) await Bun.sleep(1);
report("serve: start to /readyz", performance.now() - startedAt, "ms", { most: 300 });
report("control plane resident when idle", await residentMb(server.process.pid), "MB", { most: 100 });
try {
  const only = process.argv.slice(2);
  const parts = { latency, sessions, warm, throughput, streamDelay, bulk, burst };
  for (const [name, part] of Object.entries(parts)) if (only.length === 0 || only.includes(name)) await part(client);
  if (only.length === 0 || only.includes("footprint")) await footprint(server, client);
} finally {
  await server.stop();
}
