import type { Config } from "../config.ts";
import { KubernetesClient, KubernetesError } from "../provisioners/kubernetes/client.ts";
import { inspectCluster, podRefusal } from "../provisioners/kubernetes/inspect.ts";
import { missing, ok, type Finding } from "./doctor-finding.ts";
import type { ClockLeads } from "./doctor-services.ts";

const ROLE = "kubectl apply -f deploy/k8s/04-role.yaml";

/** The cluster that sandboxes run in: whether it answers, what it allows, and whether it would take a Pod. */
export async function cluster(config: Config, leads: ClockLeads): Promise<Finding[]> {
  const { kubernetesNamespace: namespace } = config;
  const secret = tokenSecret(config);
  let client: KubernetesClient;
  try {
    client = await KubernetesClient.open(namespace);
  } catch (error) {
    const remedy =
      "set KUBECONFIG to a file with the cluster and its credentials, or run in a Pod with a service account";
    return [secret, missing("cluster", error instanceof Error ? error.message : String(error), remedy)];
  }
  try {
    const { version, user, forbidden, serverMs } = await inspectCluster(client);
    if (serverMs !== null) leads.set("the cluster", serverMs - Date.now());
    const found = [secret, ok("cluster", `Kubernetes ${version}, as ${user}`)];
    if (forbidden.length > 0) {
      const may = `${user} may not ${forbidden.join(", ")} Pods in ${namespace}`;
      return [...found, missing("permissions", may, `${ROLE} (and bind the Role to ${user})`)];
    }
    found.push(ok("permissions", `create, get, list, watch and delete Pods in ${namespace}`));
    return [...found, podFinding(await podRefusal(client, podSettings(config)), namespace)];
  } catch (error) {
    if (!(error instanceof KubernetesError)) throw error;
    const cause = error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
    const remedy =
      error.status === 401
        ? "renew the credentials of KUBECONFIG, or the service account's token"
        : "look whether the API server runs and whether this machine has a route to it (kubectl version)";
    return [secret, missing("cluster", cause.replaceAll("\n", "; "), remedy)];
  }
}

function tokenSecret({ executorTokenSecret }: Config): Finding {
  const name = "token secret";
  if (executorTokenSecret !== null) return ok(name, "EXECUTOR_TOKEN_SECRET is set");
  const remedy = "set it to `openssl rand -hex 32`, the same in every replica";
  return missing(name, "EXECUTOR_TOKEN_SECRET is unset", remedy);
}

function podFinding(refused: string | null, namespace: string): Finding {
  const name = "sandbox Pods";
  if (refused === null) return ok(name, `${namespace} would take one (tried without making it)`);
  return missing(name, refused.replaceAll("\n", "; "), remedyOf(refused, namespace));
}

function remedyOf(refused: string, namespace: string): string {
  if (/namespaces? "[^"]*" not found/.test(refused))
    return `kubectl apply -f deploy/k8s/09-runtime-namespace.yaml, or set KUBERNETES_NAMESPACE (now ${namespace})`;
  if (refused.includes("exceeded quota")) return `raise the ResourceQuota of ${namespace}, or end sessions`;
  if (refused.includes("RuntimeClass")) return "install the RuntimeClass of RUNTIME_CLASS, or unset it";
  return `change what ${namespace} admits: its Pod Security level, LimitRange and admission webhooks`;
}

function podSettings(config: Config): Parameters<typeof podRefusal>[1] {
  const { executorImage, runtimeClass, outputLimitBytes, journalLimitBytes, logLevel, kubernetesNamespace } = config;
  const maxWaiting = config.maxWaitingPerSession;
  const common = { executorImage, runtimeClass, outputLimitBytes, journalLimitBytes, logLevel, maxWaiting };
  return { ...common, namespace: kubernetesNamespace };
}
