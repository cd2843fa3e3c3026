import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createLog } from "../../src/log.ts";
import { KubernetesClient } from "../../src/provisioners/kubernetes/client.ts";
import { KubernetesProvisioner } from "../../src/provisioners/kubernetes/kubernetes-provisioner.ts";
import { podManifest } from "../../src/provisioners/kubernetes/pod.ts";
import type { Template } from "../../src/templates/template.ts";
import { openMysql } from "../../src/stores/mysql.ts";
import type { Sql } from "../../src/stores/sql.ts";
import { SqlWarmPodStore } from "../../src/stores/warm-pod-store.ts";
import { templateRecord } from "../contracts/records.ts";
import { collect } from "../executor/fixture.ts";
import { MariaDb, mariaDbMissing } from "../services.ts";
import { eventually, HAS_CLUSTER, kubectl, newNamespace } from "./cluster.ts";
import { IMAGE, newSession, OPTIONS } from "./session.ts";

const SPEC = { default_cpu_cores: 0.5, default_memory_mb: 256, default_disk_mb: 256, image_url: IMAGE };
const WARM = templateRecord({ id: "warm", ...SPEC, warm_pool_size: 2 });
const LOG = createLog({ level: "warn", format: "text", write: () => {} });

describe.skipIf(!HAS_CLUSTER || mariaDbMissing !== null)("warm pools of Pods", () => {
  let namespace: Awaited<ReturnType<typeof newNamespace>>;
  let database: MariaDb;
  let sql: Sql;
  let store: SqlWarmPodStore;
  let client: KubernetesClient;
  let one: KubernetesProvisioner;
  let other: KubernetesProvisioner;

  beforeAll(async () => {
    [namespace, database] = await Promise.all([newNamespace(), MariaDb.start()]);
    client = await KubernetesClient.open(namespace.name);
    sql = await openMysql(database.url());
    store = new SqlWarmPodStore(sql);
    one = replica();
    other = replica();
  }, 60_000);

  afterEach(async () => {
    await empty();
  }, 60_000);

  afterAll(async () => {
    await one.close();
    await other.close();
    await sql.close();
    await database.stop();
    await namespace.dispose();
  }, 60_000);

  function replica(): KubernetesProvisioner {
    return new KubernetesProvisioner(client, { ...OPTIONS, warm: { store, maxProcesses: 64 } }, LOG);
  }

  const podNames = async (): Promise<string[]> =>
    (await kubectl(["get", "pods", "-n", namespace.name, "-o", "name"])).split("\n").filter(Boolean);

  /** Has the replicas keep the pools until they have the sizes. */
  async function kept(templates: readonly Template[], sizes: Record<string, number>, replicas = [one, other]) {
    await eventually(`pools of ${JSON.stringify(sizes)}`, 40, async () => {
      await Promise.all(replicas.map((each) => each.keepWarm(templates)));
      return Bun.deepEquals(await one.warmSizes(), sizes) ? true : null;
    });
  }

  async function empty(): Promise<void> {
    for (const [id] of await one.list()) await one.release(id, { deleteWorkspace: true });
    await sql.run("DELETE FROM warm_pods");
    await kept([], {});
    await eventually("no Pods", 40, async () => ((await podNames()).length === 0 ? true : null));
  }

  async function run(sandboxId: string, code: string, by = one) {
    const executor = await by.executorOf(sandboxId);
    const request = { sandboxId, language: "shell" as const, code, event: null, env: {}, stdin: "", timeoutMs: 20_000 };
    const id = `e-${sandboxId}`;
    return collect(await executor.execute(id, { ...request, createdAt: new Date().toISOString() }));
  }

  test("two replicas fill a pool to its size, and no further", async () => {
    await kept([WARM], { warm: 2 });
    await Promise.all([one.keepWarm([WARM]), other.keepWarm([WARM])]);
    expect(await podNames()).toHaveLength(2);
    expect(await store.list()).toHaveLength(2);
    expect((await one.list()).size).toBe(0);
  }, 60_000);

  test("a session gets a Pod that was started ahead, with its own variables, and every replica finds it", async () => {
    await kept([WARM], { warm: 2 });
    const session = newSession({ template_id: "warm", env_vars: { GREETING: "hi" } });
    const made = await one.ensure(session);
    expect(made.sandbox.pool).toBe("hit");
    expect(made.podName).toStartWith("warm-");
    expect(made.sandbox.timing).toHaveProperty("claim");
    expect((await run(session.id, "echo $GREETING; ls -A", other)).stdout).toBe("hi\n");
    expect(await other.list()).toEqual(new Map([[session.id, "running"]]));
    const again = await other.ensure({ ...session, status: "running" });
    expect(again.podName).toBe(made.podName);
    await other.release(session.id, { deleteWorkspace: true });
    await eventually("its Pod is gone", 20, async () =>
      (await podNames()).includes(`pod/${made.podName}`) ? null : true,
    );
    expect(await store.ofSession(session.id)).toBeNull();
    await kept([WARM], { warm: 2 });
  }, 90_000);

  test("no Pod is given twice, however many replicas want one at once", async () => {
    const template = { ...WARM, warm_pool_size: 3 };
    await kept([template], { warm: 3 });
    const sessions = Array.from({ length: 6 }, () => newSession({ template_id: "warm" }));
    const made = await Promise.all(sessions.map((session, i) => (i % 2 === 0 ? one : other).ensure(session)));
    const hits = made.filter(({ sandbox }) => sandbox.pool === "hit");
    expect(hits).toHaveLength(3);
    expect(made.filter(({ sandbox }) => sandbox.pool === "miss")).toHaveLength(3);
    expect(new Set(made.map(({ podName }) => podName)).size).toBe(6);
    for (const session of sessions) expect((await run(session.id, "echo own")).stdout).toBe("own\n");
  }, 90_000);

  test("two replicas that make one session give it one Pod", async () => {
    await kept([WARM], { warm: 2 });
    const session = newSession({ template_id: "warm" });
    const made = await Promise.all([one.ensure(session), other.ensure(session)]);
    expect(made[0]?.podName).toBe(made[1]?.podName ?? "");
    expect((await store.list()).filter((row) => row.session_id !== null)).toHaveLength(1);
  }, 60_000);

  test("other limits are a miss, and a template without a pool is none", async () => {
    await kept([WARM], { warm: 2 });
    const larger = await one.ensure(newSession({ template_id: "warm", memory: "300Mi" }));
    expect(larger.sandbox.pool).toBe("miss");
    const none = await one.ensure(newSession({ template_id: "another" }));
    expect(none.sandbox.pool).toBeNull();
  }, 60_000);

  test("a replica that dies between claim and bind costs nothing: the next one finds the session's Pod", async () => {
    await kept([WARM], { warm: 2 });
    const session = newSession({ template_id: "warm" });
    const [name = ""] = (await store.list()).map((row) => row.name);
    expect(await store.claim(name, session.id)).toBe(true);
    expect(await one.list()).toEqual(new Map([[session.id, "running"]]));
    expect((await other.ensure(session)).podName).toBe(name);
  }, 60_000);

  test("one whose Pod is gone by then gets another", async () => {
    await kept([WARM], { warm: 2 });
    const session = newSession({ template_id: "warm" });
    const [name = ""] = (await store.list()).map((row) => row.name);
    expect(await store.claim(name, session.id)).toBe(true);
    await kubectl(["delete", "pod", name, "-n", namespace.name, "--wait=true"]);
    const made = await one.ensure(session);
    expect([made.sandbox.pool, made.podName === name]).toEqual(["hit", false]);
    expect(await store.ofSession(session.id)).toBe(made.podName);
  }, 60_000);

  test("a session whose Pod is lost later gets one of its own", async () => {
    await kept([WARM], { warm: 2 });
    const session = newSession({ template_id: "warm" });
    const { podName: name } = await one.ensure(session);
    await kubectl(["delete", "pod", name ?? "", "-n", namespace.name, "--wait=true"]);
    await eventually("it is lost", 10, async () => ((await other.list()).get(session.id) === "lost" ? true : null));
    const made = await other.ensure({ ...session, status: "running" });
    expect(made.podName).not.toStartWith("warm-");
    expect(await other.lossOf(session.id, new Date(session.created_at))).toBe("the Pod was deleted");
    expect(await store.ofSession(session.id)).toBeNull();
    expect((await run(session.id, "echo back")).stdout).toBe("back\n");
  }, 90_000);

  test("a changed or deleted template drains its pool", async () => {
    await kept([WARM], { warm: 2 });
    const before = (await store.list()).map((row) => row.name);
    await sql.run("UPDATE warm_pods SET created_at = '2025-01-01T00:00:00.000Z'");
    await kept([{ ...WARM, default_memory_mb: 300, warm_pool_size: 1 }], { warm: 1 });
    await eventually("the old ones are gone", 20, async () => {
      const names = await podNames();
      return before.some((name) => names.includes(`pod/${name}`)) ? null : true;
    });
    await sql.run("UPDATE warm_pods SET created_at = '2025-01-01T00:00:00.000Z'");
    await kept([], {});
    await eventually("none is left", 20, async () => ((await podNames()).length === 0 ? true : null));
    expect(await store.list()).toEqual([]);
  }, 90_000);

  test("a Pod without a row is deleted, a row without a Pod makes room", async () => {
    await kept([WARM], { warm: 2 });
    const [row] = await store.list();
    const { name, pool } = row ?? { name: "", pool: "" };
    const purpose = { templateId: "warm", pool };
    const limits = { cpuCores: 0.1, memoryBytes: 64 * 1024 ** 2, diskBytes: 64 * 1024 ** 2, maxProcesses: 16 };
    const orphan = { purpose, name: "warm-orphan", image: IMAGE, limits, token: "t".repeat(32) };
    await client.createPod(podManifest(orphan, { ...OPTIONS, namespace: namespace.name }));
    await kubectl(["delete", "pod", name, "-n", namespace.name, "--wait=true"]);
    await sql.run("UPDATE warm_pods SET ready_at = '2025-01-01T00:00:00.000Z' WHERE name = ?", [name]);
    await eventually("the orphan is gone, the pool full", 40, async () => {
      await one.keepWarm([WARM]);
      const names = await podNames();
      const rows = (await store.list()).map((row) => row.name);
      const isDone =
        !names.includes("pod/warm-orphan") && !rows.includes(name) && (await one.warmSizes())["warm"] === 2;
      return isDone ? true : null;
    });
  }, 90_000);

  test("a place that a replica took and died is free again", async () => {
    await kept([WARM], { warm: 2 });
    const [row] = await store.list();
    await sql.run("UPDATE warm_pods SET name = 'warm-never-made', ready_at = NULL WHERE name = ?", [row?.name ?? ""]);
    await kept([WARM], { warm: 1 });
    await sql.run("UPDATE warm_pods SET created_at = '2025-01-01T00:00:00.000Z' WHERE name = 'warm-never-made'");
    await kept([WARM], { warm: 2 });
    expect((await store.list()).map(({ name }) => name)).not.toContain("warm-never-made");
  }, 90_000);

  test("an image that can't be pulled is not tried again and again", async () => {
    const broken = { ...WARM, image_url: "registry.invalid/nobody/nothing:1" };
    await one.keepWarm([broken]);
    await eventually("the first is given up", 60, async () => {
      await one.keepWarm([broken]);
      return (await podNames()).length === 0 && (await store.list()).length === 0 ? true : null;
    });
    await one.keepWarm([broken]);
    expect(await store.list()).toEqual([]);
  }, 90_000);
});
