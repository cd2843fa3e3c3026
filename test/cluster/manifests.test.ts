import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import {
  apply,
  eventually,
  fileOf,
  kubectl,
  MANIFESTS,
  mayInstall,
  NAMESPACES,
  removeInstallation,
  SYSTEM,
  tryKubectl,
} from "./cluster.ts";

const GUIDE_ORDER = ["00", "01", "02", "03", "04", "09", "08", "07", "05", "06"];
async function deleteAll(): Promise<void> {
  await kubectl(["delete", "-f", MANIFESTS, "--ignore-not-found", "--timeout=120s"]);
}

/** What of an installation is there: namespaces, and volumes that were claimed in them. */
async function rest(): Promise<string[]> {
  const namespaces = await kubectl(["get", "namespace", ...NAMESPACES, "--ignore-not-found", "-o", "name"]);
  const claims = await kubectl(["get", "pv", "-o", "jsonpath={.items[*].spec.claimRef.namespace}"]);
  return [...namespaces.split("\n"), ...claims.split(" ")].filter(
    (one) => one.includes("sandbox-system") || one.includes("sandbox-runtime"),
  );
}

describe.skipIf(!(await mayInstall()))("the manifests", () => {
  afterAll(removeInstallation, 180_000);
  afterEach(deleteAll, 180_000);

  test("apply in the guide's order, and delete without an error or a rest", async () => {
    for (const number of GUIDE_ORDER) await kubectl(["apply", "-f", await fileOf(number)]);
    expect((await kubectl(["get", "deployments", ...SYSTEM, "-o", "name"])).trim().split("\n").toSorted()).toEqual([
      "deployment.apps/mariadb",
      "deployment.apps/minio",
      "deployment.apps/sandbox-control-plane",
    ]);
    await kubectl(["delete", "-f", MANIFESTS, "--timeout=120s"]);
    expect(await eventually("all is gone", 30, async () => ((await rest()).length === 0 ? "gone" : null))).toBe("gone");
  }, 240_000);

  test("apply all at once and once more, and delete", async () => {
    await kubectl(["apply", "-f", MANIFESTS]);
    const again = await kubectl(["apply", "-f", MANIFESTS]);
    expect(again).not.toContain("created");
    await kubectl(["delete", "-f", MANIFESTS, "--timeout=120s"]);
    expect(await eventually("all is gone", 30, async () => ((await rest()).length === 0 ? "gone" : null))).toBe("gone");
  }, 240_000);

  test("say no more to a server than it knows", async () => {
    for (const number of ["00"]) await kubectl(["apply", "-f", await fileOf(number)]);
    const said = await tryKubectl(["apply", "--dry-run=server", "--validate=strict", "-f", MANIFESTS]);
    expect(said.stderr).toBe("");
    expect(said.code).toBe(0);
  }, 60_000);

  test("the control plane may handle the sandboxes' Pods and nothing else", async () => {
    for (const number of ["00", "03", "04"]) await kubectl(["apply", "-f", await fileOf(number)]);
    const may = async (...words: string[]): Promise<string> => {
      const as = "--as=system:serviceaccount:sandbox-system:sandbox-control-plane";
      return (await tryKubectl(["auth", "can-i", ...words, as])).stdout.trim();
    };
    for (const verb of ["create", "get", "list", "watch", "delete"])
      expect([verb, await may(verb, "pods", "-n", "sandbox-runtime")]).toEqual([verb, "yes"]);
    for (const words of [
      ["update", "pods", "-n", "sandbox-runtime"],
      ["create", "pods", "--subresource=exec", "-n", "sandbox-runtime"],
      ["get", "secrets", "-n", "sandbox-runtime"],
      ["get", "pods", "-n", "sandbox-system"],
      ["get", "secrets", "-n", "sandbox-system"],
      ["list", "nodes"],
      ["list", "namespaces"],
    ])
      expect([words, await may(...words)]).toEqual([words, "no"]);
  }, 60_000);

  test("the sandboxes' namespace takes no Pod that is less than restricted", async () => {
    for (const number of ["00", "09"]) await kubectl(["apply", "-f", await fileOf(number)]);
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "loose", namespace: "sandbox-runtime" },
      spec: { containers: [{ name: "it", image: "busybox:1.36" }] },
    };
    const said = await tryKubectl(["apply", "-f", "-"], JSON.stringify(pod));
    expect(said.code).not.toBe(0);
    expect(said.stderr).toContain('violates PodSecurity "restricted');
  }, 60_000);

  test("the extras are what a server with their operators takes", async () => {
    for (const number of ["00", "01", "02"]) await kubectl(["apply", "-f", await fileOf(number)]);
    const kinds = [
      ["clusterissuers", "ClusterIssuer", "cert-manager.io", "v1", "Cluster"],
      ["servicemonitors", "ServiceMonitor", "monitoring.coreos.com", "v1", "Namespaced"],
      ["prometheusrules", "PrometheusRule", "monitoring.coreos.com", "v1", "Namespaced"],
    ] as const;
    for (const [plural, kind, group, version, scope] of kinds)
      await apply(stubDefinition({ plural, kind, group, version, scope }));
    try {
      for await (const name of new Bun.Glob("*.yaml").scan(join(MANIFESTS, "extras"))) {
        const file = join(MANIFESTS, "extras", name);
        const said = await eventually(name, 20, async () => {
          const one = await tryKubectl(["apply", "--validate=strict", "-f", file]);
          return one.stderr.includes("no matches for kind") ? null : one;
        });
        expect([name, said.code, said.stderr.replaceAll(/^Warning: .*\n/gm, "")]).toEqual([name, 0, ""]);
        await kubectl(["delete", "-f", file, "--ignore-not-found"]);
      }
    } finally {
      for (const [plural, , group] of kinds) await kubectl(["delete", "crd", `${plural}.${group}`]);
    }
  }, 180_000);
});

type Kind = { plural: string; kind: string; group: string; version: string; scope: string };

function stubDefinition({ plural, kind, group, version, scope }: Kind): object {
  const schema = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope,
      names: { plural, kind, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [{ name: version, served: true, storage: true, schema }],
    },
  };
}
