import { Client } from "../../e2e/client.ts";
import { kubectl, SYSTEM } from "../cluster.ts";

const REPLICAS = ["-l", "app=sandbox-control-plane"];

export type Replica = { name: string; url: string };

/** The service that is deployed, reached by the addresses of its Service and its Pods, as any program on a node does. */
export class Deployed {
  readonly url: string;
  readonly key: string;

  private constructor(url: string, key: string) {
    this.url = url;
    this.key = key;
  }

  /** Throws when there is none, or its addresses lead nowhere from here. */
  static async find(): Promise<Deployed> {
    const service = ["get", "service", "sandbox-control-plane", ...SYSTEM, "-o", "jsonpath={.spec.clusterIP}"];
    const secret = ["get", "secret", "sandbox-control-plane", ...SYSTEM, "-o", "jsonpath={.data.API_KEYS}"];
    const [address, keys] = await Promise.all([kubectl(service), kubectl(secret)]);
    const url = `http://${address}:8000`;
    await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(5000) }).catch((error: unknown) => {
      throw new Error(`${url} can't be reached: run these tests on a node of the cluster`, { cause: error });
    });
    return new Deployed(url, Buffer.from(keys, "base64").toString("utf8").split(":")[1] ?? "");
  }

  /** Of the Service, or of one replica. */
  client(url = this.url): Client {
    return new Client(url, { "X-API-Key": this.key });
  }

  /** Those that are ready and not about to end, by name. */
  async replicas(): Promise<Replica[]> {
    const list = JSON.parse(await kubectl(["get", "pods", ...SYSTEM, ...REPLICAS, "-o", "json"])) as { items: Pod[] };
    return list.items
      .filter(({ metadata, status }) => metadata.deletionTimestamp === undefined && isReady(status))
      .map(({ metadata, status }) => ({ name: metadata.name, url: `http://${status.podIP}:8000` }));
  }
}

type Pod = {
  metadata: { name: string; deletionTimestamp?: string };
  status: { podIP?: string; conditions?: { type: string; status: string }[] };
};

function isReady({ conditions = [] }: Pod["status"]): boolean {
  return conditions.some((one) => one.type === "Ready" && one.status === "True");
}

/** Ends a Pod at once, as a crash does; what made it makes another. */
export async function killPod(name: string, namespace: readonly string[] = SYSTEM): Promise<void> {
  await kubectl(["delete", "pod", name, ...namespace, "--grace-period=0", "--force", "--wait=false"]);
}

/** Resolves when the Deployment has all its replicas ready again. */
export async function rolledOut(name: string): Promise<void> {
  await kubectl(["rollout", "status", `deployment/${name}`, ...SYSTEM, "--timeout=120s"]);
}
