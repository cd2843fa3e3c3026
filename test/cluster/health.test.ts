import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { Client, type Json } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { HAS_CLUSTER, kubectl, newNamespace } from "./cluster.ts";
import { Relay } from "./relay.ts";

describe.skipIf(!HAS_CLUSTER)("the health of a service that has its sandboxes in a cluster", () => {
  let namespace: Awaited<ReturnType<typeof newNamespace>>;
  let directory: string;
  let relay: Relay;
  let server: Server;
  beforeAll(async () => {
    directory = await mkdtemp("/tmp/health-cluster-");
    namespace = await newNamespace();
    const config = JSON.parse(await kubectl(["config", "view", "--raw", "--minify", "-o", "json"])) as Json;
    const cluster = config["clusters"][0].cluster as Json;
    const api = new URL(cluster["server"] as string);
    relay = new Relay(api.hostname, Number(api.port));
    cluster["server"] = `https://127.0.0.1:${relay.port}`;
    await Bun.write(join(directory, "kubeconfig"), JSON.stringify(config));
    server = await startServer({
      env: {
        PROVISIONER: "kubernetes",
        KUBECONFIG: join(directory, "kubeconfig"),
        KUBERNETES_NAMESPACE: namespace.name,
        EXECUTOR_TOKEN_SECRET: "0123456789abcdef0123456789abcdef",
      },
    });
  }, 60_000);
  afterAll(async () => {
    await server.stop();
    relay.stop();
    await namespace.dispose();
    await rm(directory, { recursive: true });
  });

  async function untilHealth(status: number): Promise<string[]> {
    const end = performance.now() + 60_000;
    for (;;) {
      const answer = await new Client(server.url).get("/health/detailed");
      const failing = (answer.body["checks"] as Json[]).filter(({ ok }) => ok !== true);
      if (answer.status === status) return failing.map(({ name }) => String(name));
      if (performance.now() > end) throw new Error(`${answer.status}: ${JSON.stringify(answer.body)}`);
      await Bun.sleep(200);
    }
  }

  test("names the cluster that can't be reached, until it can", async () => {
    expect(await untilHealth(200)).toEqual([]);
    relay.close();
    expect(await untilHealth(503)).toEqual(["kubernetes"]);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    relay.open();
    expect(await untilHealth(200)).toEqual([]);
  }, 120_000);
});
