import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { rawJson } from "../../src/json-text.ts";
import type { Executor } from "../../src/executor/protocol.ts";
import { createLog } from "../../src/log.ts";
import { KubernetesClient } from "../../src/provisioners/kubernetes/client.ts";
import { KubernetesProvisioner } from "../../src/provisioners/kubernetes/kubernetes-provisioner.ts";
import { podName } from "../../src/provisioners/kubernetes/names.ts";
import type { Session } from "../../src/sessions/session.ts";
import { collect, readUntil } from "../executor/fixture.ts";
import { apply, eventually, HAS_CLUSTER, kubectl, newNamespace } from "./cluster.ts";
import { newSession as session, OPTIONS } from "./session.ts";

let count = 0;

async function refusal(call: Promise<unknown>): Promise<AppError> {
  const outcome = await call.catch((error: unknown) => error);
  if (outcome instanceof AppError) return outcome;
  throw new Error(`not refused: ${String(outcome)}`);
}

describe.skipIf(!HAS_CLUSTER)("sessions in Pods", () => {
  let namespace: Awaited<ReturnType<typeof newNamespace>>;
  let client: KubernetesClient;
  let provisioner: KubernetesProvisioner;
  const log = createLog({ level: "warn", format: "text", write: () => {} });

  beforeAll(async () => {
    namespace = await newNamespace();
    client = await KubernetesClient.open(namespace.name);
    provisioner = new KubernetesProvisioner(client, OPTIONS, log);
  }, 60_000);

  afterAll(async () => {
    await provisioner.close();
    await namespace.dispose();
  }, 60_000);

  function run(executor: Executor, sandboxId: string, code: string, language: "python" | "shell" = "shell") {
    const request = { sandboxId, language, code, event: rawJson({ n: 1 }), env: {}, stdin: "", timeoutMs: 20_000 };
    const id = `e${++count}`;
    const stream = executor.execute(id, { ...request, createdAt: new Date().toISOString() });
    return { id, stream, ran: async () => collect(await stream) };
  }

  /** Runs `use` on a session that is released after it. */
  async function using<T>(one: Session, use: (executor: Executor) => Promise<T>): Promise<T> {
    try {
      return await use((await provisioner.ensure(one)).executor);
    } finally {
      await provisioner.release(one.id, { deleteWorkspace: true });
    }
  }

  async function ranIn(one: Session, code: string, language: "python" | "shell" = "shell") {
    return using(one, (executor) => run(executor, one.id, code, language).ran());
  }

  test("a session runs code, and is gone when it is released", async () => {
    const one = session();
    const made = await provisioner.ensure(one);
    expect(made).toMatchObject({
      podName: podName(one.id),
      sandbox: { status: "running", workspacePath: "/workspace" },
    });
    expect(made.containerId).toStartWith("containerd://");
    expect(made.sandbox.timing).toMatchObject({ pod: expect.any(Number), executor: expect.any(Number) });
    expect(await provisioner.list()).toEqual(new Map([[one.id, "running"]]));
    const python = await run(made.executor, one.id, "def handler(event):\n  return event", "python").ran();
    expect(python.returned).toEqual({ n: 1 });
    expect((await run(made.executor, one.id, "echo $GREETING").ran()).stdout).toBe("hello\n");
    await provisioner.release(one.id, { deleteWorkspace: true });
    await eventually("the Pod is gone", 20, async () => ((await provisioner.list()).size === 0 ? true : null));
    expect((await refusal(provisioner.executorOf(one.id))).code).toBe("session_not_found");
    await provisioner.release(one.id, { deleteWorkspace: true });
  }, 60_000);

  test("ensure gives the Pod that is there, to every replica", async () => {
    const one = session();
    const other = new KubernetesProvisioner(client, OPTIONS, log);
    try {
      const [first, second] = await Promise.all([provisioner.ensure(one), other.ensure(one)]);
      expect(second.containerId).toBe(first.containerId);
      const executor = await other.executorOf(one.id);
      expect((await run(executor, one.id, "echo from another replica").ran()).outcome.status).toBe("completed");
    } finally {
      await provisioner.release(one.id, { deleteWorkspace: true });
      await other.close();
    }
  }, 60_000);

  test("another token than the Pod's own is refused", async () => {
    const one = session();
    const stranger = new KubernetesProvisioner(client, { ...OPTIONS, tokenSecret: "another secret" }, log);
    try {
      await provisioner.ensure(one);
      expect((await refusal(stranger.ensure(one))).code).toBe("unauthorized");
    } finally {
      await provisioner.release(one.id, { deleteWorkspace: true });
      await stranger.close();
    }
  }, 60_000);

  test("any other image gets the executable", async () => {
    const ran = await ranIn(session({ image_url: "python:3.11-slim-bookworm" }), "print(6 * 7)", "python");
    expect(ran.stdout).toBe("42\n");
  }, 120_000);

  test("the code is confined by its container", async () => {
    const code = `exec 2>&1
      id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status
      touch /usr/x /x; ls /var/run/secrets; env | grep -c KUBERNETES; unshare -U true && echo unshared
      cat /proc/1/environ /proc/1/mem; ls /proc/1/fd; kill -9 1; kill -TERM 1; kill -SEGV 1; echo end`;
    const { stdout, outcome } = await ranIn(session(), code);
    expect(outcome.status).toBe("completed");
    expect(Number(stdout.split("\n")[0])).toBeGreaterThanOrEqual(1_000_000);
    expect(stdout).toMatch(/CapEff:\s0+\nNoNewPrivs:\s1\nSeccomp:\s2\n/);
    for (const said of ["'/usr/x': Read-only", "'/x': Read-only", "'/var/run/secrets': No such", "unshare failed"])
      expect(stdout).toContain(said);
    for (const said of [
      "/proc/1/environ: Permission denied",
      "/proc/1/mem: Permission denied",
      "'/proc/1/fd': Permission",
    ])
      expect(stdout).toContain(said);
    expect(stdout).toEndWith("end\n");
  }, 60_000);

  test("limits end what passes them, and the session lives on", async () => {
    const one = session();
    await using(one, async (executor) => {
      const memory = await run(executor, one.id, "x = bytearray(600 * 1024 ** 2)", "python").ran();
      expect(memory.outcome).toMatchObject({ status: "failed", reason: "memory_limit" });
      const bomb = await run(executor, one.id, "f() { f | f & }; f; sleep 10").ran();
      expect(bomb.outcome).toMatchObject({ status: "failed", reason: "process_limit" });
      const disk = await run(
        executor,
        one.id,
        "for i in 1 2 3 4 5; do head -c 100000000 /dev/zero >f$i; done; sleep 5",
      ).ran();
      expect(disk.outcome).toMatchObject({ status: "failed", reason: "disk_limit" });
      expect((await run(executor, one.id, "rm -f f*; echo alive").ran()).stdout).toBe("alive\n");
    });
  }, 60_000);

  test("a sandbox whose init was killed is made again in the same Pod", async () => {
    const one = session();
    await using(one, async (executor) => {
      const killed = await run(executor, one.id, "echo kept >file; kill -9 -1").ran();
      expect(killed.outcome).toMatchObject({ status: "crashed", reason: "sandbox_lost" });
      const again = await provisioner.ensure({ ...one, status: "running" });
      expect((await run(again.executor, one.id, "cat file").ran()).stdout).toBe("kept\n");
    });
  }, 60_000);

  test("an image that can't be pulled fails with the reason", async () => {
    const one = session({ image_url: "registry.invalid/nobody/nothing:1" });
    const error = await eventually("a refusal", 60, async () => {
      const outcome = await refusal(provisioner.ensure(one));
      return outcome.code === "executor_unavailable" ? null : outcome;
    });
    await provisioner.release(one.id, { deleteWorkspace: true });
    expect(error.code).toBe("image_unknown");
    expect(error.message).toContain("the image registry.invalid/nobody/nothing:1 can't be pulled");
  }, 90_000);

  test("an image in which the executable can't run fails with the reason", async () => {
    const one = session({ image_url: "registry.k8s.io/pause:3.10" });
    const error = await refusal(provisioner.ensure(one));
    await provisioner.release(one.id, { deleteWorkspace: true });
    expect(error.code).toBe("bad_request");
    expect(error.message).toMatch(/the container (sandbox ended with|can't be started)/);
  }, 60_000);

  test("a Pod that no node takes fails with the reason, once its time is up", async () => {
    const one = session({ cpu: "4000" });
    const hasty = new KubernetesProvisioner(client, { ...OPTIONS, startTimeoutMs: 3000 }, log);
    try {
      expect((await refusal(hasty.ensure(one))).code).toBe("executor_unavailable");
      const error = await refusal(hasty.ensure(one));
      expect(error.code).toBe("bad_request");
      expect(error.message).toContain("Insufficient cpu");
    } finally {
      await hasty.release(one.id, { deleteWorkspace: true });
      await hasty.close();
    }
  }, 60_000);

  test("a Pod that is deleted by hand is lost, and made again", async () => {
    const one = session();
    const made = await provisioner.ensure(one);
    const { stream } = run(made.executor, one.id, "echo started; sleep 60");
    const reader = (await stream).getReader();
    await readUntil(reader, "stdout");
    await kubectl(["-n", namespace.name, "delete", "pod", podName(one.id), "--wait=false"]);
    const end = await readUntil(reader, "end").catch((error: unknown) => error);
    expect(end).toMatchObject({ code: "executor_unavailable" });
    await eventually("it is told as gone", 20, async () =>
      provisioner.executorOf(one.id).then(
        () => null,
        (error: unknown) => (error instanceof AppError && error.code === "session_not_found" ? true : null),
      ),
    );
    const again = await provisioner.ensure({ ...one, status: "running" });
    expect(again.containerId).not.toBe(made.containerId);
    expect(await provisioner.lossOf(one.id, new Date(one.created_at))).toBe("the Pod was deleted");
    expect(await provisioner.lossOf(one.id, new Date())).toBeNull();
    await provisioner.release(one.id, { deleteWorkspace: true });
  }, 60_000);

  test("a Pod that is waited for is not waited for any longer than told", async () => {
    const one = session({ cpu: "4000" });
    const enough = new AbortController();
    const ensured = refusal(provisioner.ensure(one, enough.signal));
    await eventually("its Pod is there", 10, async () => (await provisioner.list()).get(one.id) ?? null);
    const startedMs = performance.now();
    enough.abort();
    expect((await ensured).code).toBe("executor_unavailable");
    await provisioner.release(one.id, { deleteWorkspace: true });
    expect(performance.now() - startedMs).toBeLessThan(2000);
  }, 60_000);

  test("an evicted Pod is made again", async () => {
    const one = session();
    const made = await provisioner.ensure(one);
    const name = podName(one.id);
    const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace: namespace.name } };
    const path = `/api/v1/namespaces/${namespace.name}/pods/${name}/eviction`;
    await kubectl(["create", "--raw", path, "-f", "-"], JSON.stringify(eviction));
    const again = await eventually("another Pod", 30, async () => {
      const now = await provisioner.ensure({ ...one, status: "running" });
      return now.containerId === made.containerId ? null : now;
    });
    expect(again.podName).toBe(name);
    expect(await provisioner.lossOf(one.id, new Date(one.created_at))).toContain("the Pod was evicted");
    await provisioner.release(one.id, { deleteWorkspace: true });
  }, 60_000);

  test("a session of an id whose Pod still ends gets a new Pod", async () => {
    const one = session();
    const made = await provisioner.ensure(one);
    await provisioner.release(one.id, { deleteWorkspace: true });
    const again = await eventually("another Pod", 30, async () => {
      const now = await provisioner.ensure(one);
      return now.containerId === made.containerId ? null : now;
    });
    expect(again.sandbox.status).toBe("running");
    await provisioner.release(one.id, { deleteWorkspace: true });
  }, 60_000);

  test("files are written and read where the sandbox has ended and its Pod has not", async () => {
    const one = session();
    await using(one, async (executor) => {
      await executor.deleteSandbox(one.id, { deleteWorkspace: false });
      expect(await executor.writeFile(one.id, "a/f", new Blob(["late"]).stream(), 100)).toMatchObject({ size: 4 });
      const { body } = await executor.readFile(one.id, "a/f", "GET", new Headers());
      expect(await new Response(body).text()).toBe("late");
    });
  }, 60_000);

  test("a session gets nothing of one that had its id before, and of one that is gone nothing is made", async () => {
    const former = session({ env_vars: { SECRET: "former" } });
    const one = session({ id: former.id, created_at: new Date(Date.now() + 5).toISOString(), env_vars: {} });
    const other = new KubernetesProvisioner(client, { ...OPTIONS, isLive: async (asked) => asked === one }, log);
    try {
      const made = await provisioner.ensure(former);
      const next = await eventually("a Pod of its own", 30, () => other.ensure(one).catch(() => null));
      expect(next.containerId).not.toBe(made.containerId);
      expect((await run(next.executor, one.id, 'echo "$SECRET"').ran()).stdout).toBe("\n");
      expect((await refusal(other.ensure(former))).code).toBe("session_ended");
      expect((await other.ensure(one)).containerId).toBe(next.containerId);
    } finally {
      await provisioner.release(one.id, { deleteWorkspace: true });
      await other.close();
    }
  }, 60_000);

  test("somebody else's Pod of the name is left alone", async () => {
    const one = session();
    const name = podName(one.id);
    const foreign = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name,
        namespace: namespace.name,
        labels: { "app.kubernetes.io/managed-by": "sandbox-control-plane" },
      },
      spec: {
        containers: [
          {
            name: "it",
            image: "busybox:1.36",
            securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
          },
        ],
        securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } },
      },
    };
    await apply(foreign);
    expect((await refusal(provisioner.ensure(one))).message).toContain("is not that of session");
    await kubectl(["-n", namespace.name, "delete", "pod", name, "--now"]);
  }, 60_000);

  test("a quota that is used up fails with the quota's words", async () => {
    const quota = { apiVersion: "v1", kind: "ResourceQuota", metadata: { name: "none", namespace: namespace.name } };
    await apply({ ...quota, spec: { hard: { pods: "0" } } });
    try {
      const error = await eventually("a refusal", 20, async () => {
        const one = session();
        const outcome = await provisioner.ensure(one).catch((refused: unknown) => refused);
        if (outcome instanceof AppError) return outcome;
        await provisioner.release(one.id, { deleteWorkspace: true });
        return null;
      });
      expect(error.code).toBe("bad_request");
      expect(error.message).toContain("exceeded quota: none");
    } finally {
      await kubectl(["-n", namespace.name, "delete", "resourcequota", "none"]);
    }
  }, 60_000);

  test("without the right to it, creating fails with the cluster's words", async () => {
    const elsewhere = await KubernetesClient.open("there-is-no-such-namespace");
    const lost = new KubernetesProvisioner(elsewhere, OPTIONS, log);
    try {
      const error = await refusal(lost.ensure(session()));
      expect(error).toMatchObject({ code: "bad_request" });
      expect(error.message).toContain("not found");
    } finally {
      await lost.close();
    }
  }, 60_000);
});
