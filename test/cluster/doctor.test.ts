import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { command } from "../cli/command.ts";
import { apply, fileOf, HAS_CLUSTER, kubectl, newNamespace } from "./cluster.ts";

type Check = { name: string; verdict: "ok" | "weaker" | "missing"; found: string; remedy?: string };

describe.skipIf(!HAS_CLUSTER)("doctor on a cluster", () => {
  let namespace: Awaited<ReturnType<typeof newNamespace>>;
  let directory: string;
  let server: string;
  beforeAll(async () => {
    directory = await mkdtemp("/tmp/doctor-cluster-");
    namespace = await newNamespace();
    await kubectl(["create", "serviceaccount", "sandbox-control-plane", "-n", namespace.name]);
    server = await kubectl(["config", "view", "--raw", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]);
  }, 60_000);
  afterAll(async () => {
    await namespace.dispose();
    await rm(directory, { recursive: true });
  });

  /** A kubeconfig with the service account's credentials alone. */
  async function kubeconfig(change: { server?: string; token?: string } = {}): Promise<string> {
    const given = await kubectl(["create", "token", "sandbox-control-plane", "-n", namespace.name]);
    const authority = await kubectl([
      "config",
      "view",
      "--raw",
      "--minify",
      "-o",
      "jsonpath={.clusters[0].cluster.certificate-authority-data}",
    ]);
    const cluster = { server: change.server ?? server, "certificate-authority-data": authority };
    const path = join(directory, `kubeconfig-${crypto.randomUUID()}`);
    const config = {
      apiVersion: "v1",
      kind: "Config",
      "current-context": "here",
      clusters: [{ name: "here", cluster }],
      users: [{ name: "account", user: { token: change.token ?? given } }],
      contexts: [{ name: "here", context: { cluster: "here", user: "account" } }],
    };
    await Bun.write(path, JSON.stringify(config));
    return path;
  }

  /** The Role of the manifests with some of its verbs, in this namespace. */
  async function allow(verbs: string[]): Promise<void> {
    const [role, binding] = (await Bun.file(await fileOf("04")).text()).split("\n---\n");
    const parsed = Bun.YAML.parse(role ?? "") as { rules: { verbs: string[] }[] };
    const here = (text: string): string => text.replaceAll(/sandbox-(runtime|system)/g, namespace.name);
    const rules = parsed.rules.map((rule) => ({ ...rule, verbs: rule.verbs.filter((verb) => verbs.includes(verb)) }));
    await apply(here(JSON.stringify({ ...parsed, rules })), here(binding ?? ""));
  }

  async function checks(env: Record<string, string>): Promise<{ code: number; checks: Check[] }> {
    const all = {
      PROVISIONER: "kubernetes",
      KUBERNETES_NAMESPACE: namespace.name,
      EXECUTOR_TOKEN_SECRET: "0123456789abcdef0123456789abcdef",
      DATA_DIR: `${directory}/none`,
      ...env,
    };
    const { code, stdout } = await command(["doctor", "--json"], { env: all });
    return { code, checks: (JSON.parse(stdout) as { checks: Check[] }).checks };
  }

  const named = ({ checks: all }: { checks: Check[] }, name: string): Check =>
    all.find((one) => one.name === name) ?? { name, verdict: "ok", found: "not looked at" };

  const ALL = ["create", "get", "list", "watch", "delete"];

  test("says what a service account may not do, and whose it is, until the manifests' Role allows it", async () => {
    const KUBECONFIG = await kubeconfig();
    const none = await checks({ KUBECONFIG });
    expect(none.code).toBe(1);
    expect(named(none, "cluster").found).toContain(`system:serviceaccount:${namespace.name}:sandbox-control-plane`);
    expect(named(none, "permissions").found).toContain("may not create, get, list, watch, delete Pods");
    expect(named(none, "permissions").remedy).toContain("kubectl apply -f deploy/k8s/04-role.yaml");
    for (const verb of ALL) {
      await allow(ALL.filter((one) => one !== verb));
      const said = await checks({ KUBECONFIG });
      expect(named(said, "permissions").verdict).toBe("missing");
      expect(named(said, "permissions").found).toContain(`may not ${verb} Pods in ${namespace.name}`);
    }
    await allow(ALL);
    const said = await checks({ KUBECONFIG });
    const about = ["token secret", "cluster", "permissions", "sandbox Pods", "clock"];
    expect(about.map((name) => [name, named(said, name).verdict])).toEqual(about.map((name) => [name, "ok"]));
    expect(named(said, "clock").found).toEndWith("within 5 s of that of the cluster");
    // Nothing of this machine is asked for but what is kept here.
    expect(said.checks.map(({ name }) => name)).not.toContain("bubblewrap");
    expect(await kubectl(["get", "pods", "-n", namespace.name, "-o", "name"])).toBe("");
  }, 60_000);

  test("tries whether a Pod would be taken, and names what is in the way", async () => {
    const env = { KUBECONFIG: process.env["KUBECONFIG"] ?? "" };
    const absent = named(await checks({ ...env, KUBERNETES_NAMESPACE: "no-such-namespace" }), "sandbox Pods");
    expect(absent.found).toBe('namespaces "no-such-namespace" not found');
    expect(absent.remedy).toContain("09-runtime-namespace.yaml");
    const runtime = named(await checks({ ...env, RUNTIME_CLASS: "no-such-class" }), "sandbox Pods");
    expect(runtime.found).toContain('RuntimeClass "no-such-class" not found');
    expect(runtime.remedy).toContain("RUNTIME_CLASS");
    const quota = {
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "none", namespace: namespace.name },
      spec: { hard: { pods: "0" } },
    };
    await apply(quota);
    try {
      const full = named(await checks(env), "sandbox Pods");
      expect(full.verdict).toBe("missing");
      expect(full.found).toContain("exceeded quota");
      expect(full.remedy).toContain("ResourceQuota");
    } finally {
      await kubectl(["delete", "resourcequota", "none", "-n", namespace.name]);
    }
  }, 60_000);

  test("names a cluster that is away or refuses, and what is not configured", async () => {
    const away = named(await checks({ KUBECONFIG: await kubeconfig({ server: "https://127.0.0.1:1" }) }), "cluster");
    expect([away.verdict, away.found]).toEqual(["missing", expect.stringContaining("can't be reached") as string]);
    const refused = named(await checks({ KUBECONFIG: await kubeconfig({ token: "hunter2" }) }), "cluster");
    expect([refused.verdict, refused.remedy]).toEqual(["missing", expect.stringContaining("credentials") as string]);
    expect(JSON.stringify(refused)).not.toContain("hunter2");
    const missing = await checks({ KUBECONFIG: `${directory}/no-kubeconfig`, EXECUTOR_TOKEN_SECRET: "" });
    expect(named(missing, "token secret").remedy).toContain("openssl rand -hex 32");
    expect(named(missing, "cluster").remedy).toContain("KUBECONFIG");
  }, 60_000);
});
