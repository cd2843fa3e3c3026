import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { buildImages } from "./images.ts";

/** Whether there is a cluster to test on: KUBECONFIG names it, and only then does any of this folder run. */
export const HAS_CLUSTER = (process.env["KUBECONFIG"] ?? "") !== "";

// Before any test, in whatever order the files run.
if (HAS_CLUSTER) await buildImages();

const LAB_KUBECTL = join(homedir(), ".cache/sandbox-lab/cache/bin/kubectl");
export const KUBECTL = Bun.which("kubectl") ?? (existsSync(LAB_KUBECTL) ? LAB_KUBECTL : "kubectl");

export type Said = { code: number; stdout: string; stderr: string };

/** Runs kubectl to its end, with `input` on its stdin. */
export async function tryKubectl(args: string[], input = ""): Promise<Said> {
  const child = Bun.spawn([KUBECTL, ...args], { stdin: Buffer.from(input), stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

/** Its stdout. Throws with what it said when it failed. */
export async function kubectl(args: string[], input = ""): Promise<string> {
  const said = await tryKubectl(args, input);
  if (said.code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${said.stderr || said.stdout}`);
  return said.stdout;
}

/** Applies objects, given as YAML or as values. */
export async function apply(...objects: (string | object)[]): Promise<void> {
  for (const object of objects)
    await kubectl(["apply", "-f", "-"], typeof object === "string" ? object : JSON.stringify(object));
}

/** A namespace of this run's own under Pod Security `restricted`; removed with all in it by `dispose`. */
export async function newNamespace(): Promise<{ name: string; dispose(): Promise<void> }> {
  const name = `sandbox-test-${crypto.randomUUID().slice(0, 8)}`;
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  await apply({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
  return { name, dispose: async () => void (await kubectl(["delete", "namespace", name, "--wait=false"])) };
}

/** Resolves once `look` gives a value; throws when it has not after `seconds`. For what the cluster tells by no event. */
export async function eventually<T>(what: string, seconds: number, look: () => Promise<T | null>): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const value = await look();
    if (value !== null) return value;
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await Bun.sleep(200);
  }
}

export const MANIFESTS = join(import.meta.dir, "../../deploy/k8s");
export const NAMESPACES = ["sandbox-system", "sandbox-runtime"];
export const SYSTEM = ["-n", "sandbox-system"];

/** The file of deploy/k8s whose name starts with this number. */
export async function fileOf(number: string): Promise<string> {
  for await (const name of new Bun.Glob(`${number}-*.yaml`).scan(MANIFESTS)) return join(MANIFESTS, name);
  throw new Error(`no file ${number}`);
}

/** In `default`: says that what is installed is of these tests, which a run that was cut short leaves behind. */
const MARK = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "sandbox-cluster-tests", namespace: "default" } };

/** Whether these tests may install the manifests: not over an installation that is somebody's. Removes their own leftovers. */
export async function mayInstall(): Promise<boolean> {
  if (!HAS_CLUSTER) return false;
  const installed = await kubectl(["get", "namespace", ...NAMESPACES, "--ignore-not-found", "-o", "name"]);
  const mark = await kubectl([
    "get",
    "configmap",
    MARK.metadata.name,
    "-n",
    "default",
    "--ignore-not-found",
    "-o",
    "name",
  ]);
  if (installed !== "" && mark === "") return false;
  if (installed !== "") await removeInstallation();
  await apply(MARK);
  return true;
}

/** Removes what the tests installed, if there is anything left of it. */
export async function removeInstallation(): Promise<void> {
  await kubectl(["delete", "-f", MANIFESTS, "--ignore-not-found", "--timeout=170s"]);
  await kubectl(["delete", "configmap", MARK.metadata.name, "-n", "default", "--ignore-not-found"]);
}
