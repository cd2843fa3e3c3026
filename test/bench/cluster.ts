/**
 * Figures of a cluster, against a service that runs there:
 *
 *     KUBECONFIG=… SANDBOX_URL=http://…[,http://another-replica] [SANDBOX_API_KEY=…] bun test/bench/cluster.ts
 *
 * With two URLs, streams are read from the second of what was submitted to the first. KUBERNETES_NAMESPACE is where sessions
 * run (sandbox-runtime), SESSION_IMAGE their image, which must be on the node. The executor's memory is shown where this runs
 * on the node itself.
 */
import { createLog } from "../../src/log.ts";
import { KubernetesClient } from "../../src/provisioners/kubernetes/client.ts";
import { PodWatch } from "../../src/provisioners/kubernetes/pod-watch.ts";
import { podState } from "../../src/provisioners/kubernetes/pod-state.ts";
import { Client } from "../e2e/client.ts";
import { machine, quantile, report, reportLatency, sample } from "./figures.ts";

const [url = "", otherUrl = url] = (process.env["SANDBOX_URL"] ?? "").split(",");
const key = process.env["SANDBOX_API_KEY"];
const headers: Record<string, string> = key === undefined ? {} : { Authorization: `Bearer ${key}` };
const client = new Client(url, headers);
const other = new Client(otherUrl, headers);
const TEMPLATE = {
  image_url: process.env["SESSION_IMAGE"] ?? "sandbox-template-python-basic:latest",
  runtime_type: "python3.11",
  default_cpu_cores: 1,
  default_memory_mb: 256,
};
const WARM = 4;

/** When each Pod was seen for the first time as it is then, by `performance.now()`. */
type Seen = { made: number; scheduled?: number; started?: number };
const seen = new Map<string, Seen>();

async function watchPods(): Promise<PodWatch> {
  const kubernetes = await KubernetesClient.open(process.env["KUBERNETES_NAMESPACE"] ?? "sandbox-runtime");
  const log = createLog({ level: "warn", format: "text" });
  const watch = new PodWatch(kubernetes, "app.kubernetes.io/name=sandbox", log, (name, pod) => {
    if (pod === null) return;
    const now = performance.now();
    const one = seen.get(name) ?? { made: now };
    if (pod.spec?.nodeName !== undefined) one.scheduled ??= now;
    if (podState(pod).kind === "running") one.started ??= now;
    seen.set(name, one);
  });
  watch.start();
  await watch.synced(10_000);
  return watch;
}

async function firstOutput(session: string): Promise<void> {
  const execution = await client.submit(session, "print('x')");
  for await (const event of client.events(execution)) if (event.type === "stdout") return;
  throw new Error("no output");
}

async function end(session: string): Promise<void> {
  await client.raw("DELETE", `/sessions/${session}`);
}

/** Milliseconds of a phase of making the sandbox, as the service says them. */
function phase(serverTiming: string, name: string): number {
  return Number(new RegExp(`(?:^|, )(?:sandbox_)?${name};dur=([\\d.]+)`).exec(serverTiming)?.[1] ?? 0);
}

async function cold(): Promise<void> {
  await client.post("/templates", { ...TEMPLATE, id: "bench-cold", name: "Bench, cold" });
  const phases: Record<string, number[]> = { schedule: [], start: [], ready: [], restore: [], run: [] };
  const totals: number[] = [];
  for (let i = 0; i < 12; i++) {
    const startedMs = performance.now();
    const { body, headers: answered } = await client.post("/sessions?wait=60", { template_id: "bench-cold" });
    const readyMs = performance.now();
    await firstOutput(body["id"]);
    const endMs = performance.now();
    const pod = seen.get(body["pod_name"]);
    const restore = phase(answered.get("server-timing") ?? "", "restore");
    const scheduledMs = pod?.scheduled ?? Number.NaN;
    const runningMs = pod?.started ?? Number.NaN;
    phases["schedule"]?.push(scheduledMs - startedMs);
    phases["start"]?.push(runningMs - scheduledMs);
    phases["ready"]?.push(readyMs - runningMs - restore);
    phases["restore"]?.push(restore);
    phases["run"]?.push(endMs - readyMs);
    totals.push(endMs - startedMs);
    await end(body["id"]);
    await Bun.sleep(500);
  }
  reportLatency("session: create to first output, cold Pod", totals, 3000);
  for (const [name, samples] of Object.entries(phases)) report(`  ${name}, p50`, quantile(samples, 0.5), "ms");
}

async function pooled(): Promise<number> {
  const text = await (await fetch(`${url}/metrics`, { headers })).text();
  return Number(/^sandbox_warm_pool_size\{template="bench-warm"\} (\d+)$/m.exec(text)?.[1] ?? 0);
}

/** Creates from a pool that is full each time. */
async function warm(): Promise<void> {
  await client.post("/templates", { ...TEMPLATE, id: "bench-warm", name: "Bench, warm", warm_pool_size: WARM });
  const totals: number[] = [];
  const creates: number[] = [];
  let running = 0;
  for (let round = 0; round < 10; round++) {
    const giveUpMs = performance.now() + 120_000;
    while ((await pooled()) < WARM) {
      if (performance.now() > giveUpMs) throw new Error("the pool is not full within two minutes");
      await Bun.sleep(200);
    }
    await Bun.sleep(1000);
    for (let i = 0; i < WARM - 1; i++) {
      const startedMs = performance.now();
      const { body } = await client.post("/sessions", { template_id: "bench-warm" });
      creates.push(performance.now() - startedMs);
      if (body["status"] === "running") running += 1;
      await firstOutput(body["id"]);
      totals.push(performance.now() - startedMs);
      void end(body["id"]);
      await Bun.sleep(50);
    }
  }
  reportLatency("session: create to first output, warm Pod", totals, 80, 200);
  reportLatency("  of it the creation's answer", creates);
  report("  answered running", (running / creates.length) * 100, "%", { least: 100 });
  await client.call("PUT", "/templates/bench-warm", { warm_pool_size: 0 });
}

async function executions(session: string): Promise<void> {
  const path = `/executions/sessions/${session}/execute-sync`;
  const samples = await sample(300, 30, async () => {
    const { status, body } = await client.post(path, { language: "python", code: "def handler(e): return 1" });
    if (status !== 200 || body["status"] !== "completed") throw new Error(`${status} ${JSON.stringify(body)}`);
  });
  reportLatency("Python handler, execute-sync", samples, 12);
}

/** From the open stream's side: a byte is printed at a time that it tells itself, on the node's clock. */
async function streams(session: string): Promise<void> {
  const code = "import time\ntime.sleep(0.3)\nprint(time.time(), flush=True)\ntime.sleep(0.05)";
  const taken: number[] = [];
  for (let i = 0; i < 40; i++) {
    const execution = await client.submit(session, code);
    for await (const event of other.events(execution)) {
      if (event.type !== "stdout") continue;
      taken.push(Date.now() - Number(event.data["text"]) * 1000);
      break;
    }
  }
  reportLatency(otherUrl === url ? "SSE: written to read" : "SSE: written to read on another replica", taken, 15);
}

/** From a reader's request to its first byte of an execution that ran before it came, on another replica. */
async function lateReaders(session: string): Promise<void> {
  const taken: number[] = [];
  for (let i = 0; i < 40; i++) {
    const execution = await client.submit(session, "import time; print('x', flush=True); time.sleep(0.2)");
    await Bun.sleep(100);
    const startedMs = performance.now();
    for await (const event of other.events(execution)) if (event.type === "stdout") break;
    taken.push(performance.now() - startedMs);
  }
  reportLatency("SSE: request to first output on another replica", taken, 15);
}

async function memory(): Promise<void> {
  const text = await (await fetch(`${url}/metrics`, { headers })).text();
  const bytes = Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)?.[1] ?? Number.NaN);
  report("control plane, resident", bytes / 1e6, "MB", { most: 150 });
  const found: Record<string, number>[] = [];
  for await (const path of new Bun.Glob("[0-9]*/cmdline").scan({ cwd: "/proc", onlyFiles: false })) {
    const command = await Bun.file(`/proc/${path}`)
      .text()
      .catch(() => "");
    if (!/executor\0--single-sandbox/.test(command)) continue;
    const rollup = await Bun.file(`/proc/${path.replace("cmdline", "smaps_rollup")}`)
      .text()
      .catch(() => "");
    const sizes = [...rollup.matchAll(/^(\w+):\s+(\d+) kB/gm)].map(([, name = "", kb]) => [name, Number(kb) / 1000]);
    if (sizes.length > 0) found.push(Object.fromEntries(sizes) as Record<string, number>);
  }
  if (found.length === 0) return console.log("executor in a Pod: its memory shows on the node alone");
  const median = (name: string): number =>
    quantile(
      found.map((sizes) => sizes[name] ?? Number.NaN),
      0.5,
    );
  report(`executor in a Pod, proportional (of ${found.length})`, median("Pss"), "MB", { most: 64 });
  report("executor in a Pod, its own (anonymous)", median("Anonymous"), "MB");
  report("executor in a Pod, resident", median("Rss"), "MB");
}

if (url === "") throw new Error("SANDBOX_URL names no service");
console.log(await machine());
const watch = await watchPods();
try {
  await cold();
  await warm();
  const session = await client.session({ template_id: "bench-cold" });
  await executions(session);
  await streams(session);
  await lateReaders(session);
  await memory();
  await end(session);
} finally {
  for (const id of ["bench-cold", "bench-warm"]) await client.call("DELETE", `/templates/${id}`);
  await watch.stop();
}
