import { afterAll, describe, expect, test } from "bun:test";
import { dirname, join } from "node:path";
import { Client } from "../e2e/client.ts";
import { eventually, HAS_CLUSTER, isInstalled, kubectl, KUBECTL, MANIFESTS, portForward, SYSTEM } from "./cluster.ts";

const ROOT = join(import.meta.dir, "../..");

/** The guide's commands that any cluster takes, in their order: its `sh` blocks. Those of one kind of cluster are `console`. */
async function commands(): Promise<string[]> {
  const text = await Bun.file(join(ROOT, "deploy/README.md")).text();
  return [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1] ?? "");
}

async function runInShell(script: string): Promise<{ code: number; said: string }> {
  const child = Bun.spawn(["bash", "-euo", "pipefail", "-c", script], {
    cwd: ROOT,
    env: { ...process.env, PATH: `${dirname(KUBECTL)}:${process.env["PATH"] ?? ""}` },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, said: out + err };
}

describe.skipIf(!HAS_CLUSTER || (await isInstalled()))("the guide", () => {
  afterAll(async () => {
    await kubectl(["delete", "-f", MANIFESTS, "--ignore-not-found", "--timeout=170s"]);
  }, 180_000);

  test("its commands do what they say, one after the other", async () => {
    for (const script of await commands()) {
      const { code, said } = await runInShell(script);
      expect([script, code, code === 0 ? "" : said]).toEqual([script, 0, ""]);
    }
  }, 600_000);

  test("the autoscaler sees CPU and memory", async () => {
    const seen = await eventually("figures", 90, async () => {
      const metrics = await kubectl([
        "get",
        "hpa",
        "sandbox-control-plane",
        ...SYSTEM,
        "-o",
        "jsonpath={.status.currentMetrics}",
      ]);
      const found = [...metrics.matchAll(/"name":"(\w+)"/g)].map((match) => match[1]);
      return found.length === 2 ? found : null;
    });
    expect(new Set(seen)).toEqual(new Set(["cpu", "memory"]));
    expect(await kubectl(["top", "pods", ...SYSTEM])).toContain("sandbox-control-plane-");
  }, 120_000);

  test("a session runs in a Pod, and its Pod goes with it", async () => {
    const forward = await portForward("service/sandbox-control-plane", 8000);
    try {
      const client = new Client(forward.url, { "X-API-Key": await firstKey() });
      const created = await client.post("/sessions?wait=60", { template_id: "python-basic" });
      const { id, status, pod_name: pod } = created.body as { id: string; status: string; pod_name: string };
      expect(status).toBe("running");
      expect(pod).toStartWith("session-sess-");
      const ran = await client.run(id, "print(6 * 7)");
      expect(ran).toMatchObject({ status: "completed", stdout: "42\n" });
      await kubectl(["get", "pod", pod, "-n", "sandbox-runtime"]);
      expect((await client.call("DELETE", `/sessions/${id}`)).status).toBe(204);
      await kubectl(["wait", `pod/${pod}`, "-n", "sandbox-runtime", "--for=delete", "--timeout=30s"]);
    } finally {
      forward.stop();
    }
  }, 120_000);

  test.each(["executions", "events", "sessions", "templates"])(
    "the conformance suite holds: %s",
    async (name) => {
      const forward = await portForward("service/sandbox-control-plane", 8000);
      const child = Bun.spawn(["bun", "test", "--timeout", "120000", `test/conformance/${name}.test.ts`], {
        cwd: ROOT,
        env: { ...process.env, SANDBOX_URL: forward.url, SANDBOX_API_KEY: await firstKey() },
        stdout: "ignore",
        stderr: "pipe",
      });
      const said = await new Response(child.stderr).text();
      forward.stop();
      const failures = said.split("\n").filter((line) => line.startsWith("(fail)"));
      expect(failures).toEqual([]);
      expect(await child.exited).toBe(0);
    },
    600_000,
  );
});

/** The one that the guide's commands put into the secret. */
async function firstKey(): Promise<string> {
  const encoded = await kubectl([
    "get",
    "secret",
    "sandbox-control-plane",
    ...SYSTEM,
    "-o",
    "jsonpath={.data.API_KEYS}",
  ]);
  return Buffer.from(encoded, "base64").toString("utf8").split(":")[1] ?? "";
}
