import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { Prometheus, prometheusMissing } from "../services.ts";
import { alertRules, comparedValue, dashboardQueries, groupedBy, JOB, type Rule } from "./monitoring.ts";

const WARM = { id: "warm", name: "Warm", image_url: "sandbox-template-python-basic:latest", runtime_type: "python3.11" };
/** Prometheus scrapes each second; on a busy machine some scrapes are late. */
const VALUE_WAIT_MS = 15_000;

describe.skipIf(prometheusMissing !== null)(prometheusMissing ?? "against a service that has run work", () => {
  let server: Server;
  let prometheus: Prometheus;
  let rules: Rule[];
  let stopped = false;
  let work: Promise<void>;
  const follower = new AbortController();

  beforeAll(async () => {
    const file = await alertRules();
    rules = file.groups.flatMap((group) => group.rules);
    server = await startServer();
    prometheus = await Prometheus.start(JOB, new URL(server.url).host, file);
    const client = new Client(server.url);
    await client.post("/templates", { ...WARM, warm_pool_size: 1 });
    const session = await client.session();
    await client.session({ template_id: "warm" });
    const long = await client.submit(session, "import time\ntime.sleep(600)");
    void client.raw("GET", `/executions/${long}/events`, undefined, { Accept: "text/event-stream" }, follower.signal);
    // The only answer of its kind that nothing needs to break for.
    await client.raw("PUT", `/sessions/${session}/files/a`, "a");
    expect((await client.get(`/sessions/${session}/files/a?presign=true`)).status).toBe(501);
    // Rates come from what happens between two scrapes.
    work = (async () => {
      while (!stopped)
        for (const [language, code] of [["python", "1"], ["shell", "exit 3"], ["javascript", "1"]] as const)
          await client.run(session, code, { language });
    })();
    await until(async () => (await prometheus.query("rate(sandbox_executions_total[5s]) > 0")).length >= 3);
  }, 60_000);

  afterAll(async () => {
    stopped = true;
    follower.abort();
    await work;
    await prometheus.stop();
    await server.stop();
  });

  async function until(look: () => Promise<boolean>, limitMs = 20_000): Promise<void> {
    const end = performance.now() + limitMs;
    while (!(await look())) {
      if (performance.now() > end) throw new Error("it does not come");
      await Bun.sleep(50);
    }
  }

  /** The expression has a value once there are two scrapes, and every label that it groups by is in it. */
  async function expectValue(name: string, expression: string): Promise<void> {
    let series = await prometheus.query(expression);
    const end = performance.now() + VALUE_WAIT_MS;
    while (series.length === 0 && performance.now() < end) {
      await Bun.sleep(100);
      series = await prometheus.query(expression);
    }
    expect(series.length, `${name}: ${expression}`).toBeGreaterThan(0);
    const labels = groupedBy(expression).filter((label) => label !== "le");
    for (const { metric } of series) expect(Object.keys(metric), expression).toEqual(expect.arrayContaining(labels));
  }

  test("every query of the dashboard has a value", async () => {
    const queries = await dashboardQueries("30s");
    expect(queries.length).toBeGreaterThan(20);
    for (const [title, expression] of queries) await expectValue(title, expression);
  }, 60_000);

  test("every alert compares something that is there, and none fires", async () => {
    expect(rules.length).toBeGreaterThan(8);
    for (const rule of rules.filter(({ alert }) => alert !== "SandboxAbsent"))
      await expectValue(rule.alert, comparedValue(rule));
    expect(await prometheus.query('ALERTS{alertstate="firing"}')).toEqual([]);
  }, 60_000);

  test("an executor that is killed has the alert of crashed executions fire", async () => {
    process.kill(await server.executorPid(), "SIGKILL");
    await until(async () => (await prometheus.query('ALERTS{alertname="SandboxExecutionsCrashed"}')).length > 0);
    expect(await prometheus.query('ALERTS{language="python",alertstate="firing"}')).toHaveLength(1);
  }, 30_000);
});
