import { KubernetesError, type KubernetesClient } from "./client.ts";
import { podManifest, type PodSettings } from "./pod.ts";

/** What the control plane does with Pods, as in deploy/k8s/04-role.yaml. */
const POD_VERBS = ["create", "get", "list", "watch", "delete"] as const;

/** Of the cluster as these credentials see it. `serverMs` is its clock, when it says. */
export type ClusterInspected = {
  version: string;
  user: string;
  /** What it may not do with Pods of the namespace and has to. */
  forbidden: string[];
  serverMs: number | null;
};

/** Looks whose credentials these are and what they allow, and changes nothing. Throws KubernetesError. */
export async function inspectCluster(client: KubernetesClient): Promise<ClusterInspected> {
  const { body, serverMs } = await client.call("GET", "/version");
  const may = await Promise.all(POD_VERBS.map((verb) => isAllowed(client, verb)));
  return {
    version: (body as { gitVersion: string }).gitVersion,
    user: await userOf(client),
    forbidden: POD_VERBS.filter((_, index) => may[index] !== true),
    serverMs,
  };
}

async function isAllowed(client: KubernetesClient, verb: string): Promise<boolean> {
  const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
  const { body } = await client.call("POST", path, {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    spec: { resourceAttributes: { namespace: client.namespace, verb, resource: "pods" } },
  });
  return (body as { status: { allowed: boolean } }).status.allowed;
}

/** Kubernetes before 1.28 does not tell. */
async function userOf(client: KubernetesClient): Promise<string> {
  const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
  try {
    const path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    const { body } = await client.call("POST", path, review);
    return (body as { status: { userInfo: { username: string } } }).status.userInfo.username;
  } catch (error) {
    if (error instanceof KubernetesError && error.status !== 0) return "these credentials";
    throw error;
  }
}

/** Why the cluster would refuse a small Pod of a session; null when it would take it. Nothing is made. Throws KubernetesError. */
export async function podRefusal(client: KubernetesClient, settings: PodSettings): Promise<string | null> {
  const limits = { cpuCores: 0.1, memoryBytes: 128 * 1024 ** 2, diskBytes: 256 * 1024 ** 2, maxProcesses: 64 };
  const name = `sandbox-doctor-${crypto.randomUUID().slice(0, 8)}`;
  const purpose = { sessionId: name, createdAt: "", attempt: 1 };
  const request = { purpose, name, image: settings.executorImage, limits, token: "none" };
  const path = `/api/v1/namespaces/${client.namespace}/pods?dryRun=All`;
  try {
    await client.call("POST", path, podManifest(request, settings));
    return null;
  } catch (error) {
    if (error instanceof KubernetesError && error.status >= 400 && error.status < 500) return error.message;
    throw error;
  }
}
