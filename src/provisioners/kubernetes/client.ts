import { STATUS_CODES } from "node:http";
import type { CoreV1Api, KubeConfig, V1Pod } from "@kubernetes/client-node";

/** What a watch tells. A bookmark carries nothing but a newer `resourceVersion`. */
export type PodEvent =
  | { type: "ADDED" | "MODIFIED" | "DELETED"; pod: V1Pod }
  | { type: "BOOKMARK"; pod: { metadata?: { resourceVersion?: string } } };

/** A refusal of the API server, with its HTTP status; 0 when it could not be reached. */
export class KubernetesError extends Error {
  readonly status: number;
  /** The API's own word, such as AlreadyExists or Expired; "" when it said none. */
  readonly reason: string;

  constructor(status: number, reason: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "KubernetesError";
    this.status = status;
    this.reason = reason;
  }
}

/** How long the API server may take to answer, a watch excepted. */
const ANSWER_MS = 15_000;

type Library = typeof import("@kubernetes/client-node");

/**
 * Pods of one namespace. Every method throws KubernetesError. The library's calls and the watch go over Bun's own `fetch`:
 * the library's undici ignores the cluster's authority under Bun.
 */
export class KubernetesClient {
  readonly namespace: string;
  readonly #config: KubeConfig;
  readonly #api: CoreV1Api;
  readonly #server: string;

  /**
   * With the service account's credentials inside a cluster, else with those of `kubeconfig` (KUBECONFIG or ~/.kube/config
   * when it is not given). Throws an Error that says what is missing.
   */
  static async open(namespace: string, kubeconfig?: string): Promise<KubernetesClient> {
    const library = await import("@kubernetes/client-node");
    const config = new library.KubeConfig();
    const isInside = (process.env["KUBECONFIG"] ?? "") === "" && (process.env["KUBERNETES_SERVICE_HOST"] ?? "") !== "";
    if (kubeconfig !== undefined) config.loadFromFile(kubeconfig);
    else if (isInside) config.loadFromCluster();
    else config.loadFromDefault();
    return new KubernetesClient(library, config, namespace);
  }

  private constructor(library: Library, config: KubeConfig, namespace: string) {
    const cluster = config.getCurrentCluster();
    if (cluster === null) throw new Error("the kubeconfig names no current cluster");
    this.namespace = namespace;
    this.#config = config;
    this.#server = cluster.server.replace(/\/$/, "");
    const { ResponseContext, ServerConfiguration, createConfiguration, wrapHttpLibrary } = library;
    const send = async (request: InstanceType<Library["RequestContext"]>) => {
      const body = request.getBody();
      const response = await this.#fetch(request.getUrl(), {
        method: request.getHttpMethod(),
        headers: request.getHeaders(),
        signal: AbortSignal.timeout(ANSWER_MS),
        ...(typeof body === "string" ? { body } : {}),
      });
      const content = Buffer.from(await response.arrayBuffer());
      const headers = Object.fromEntries(response.headers.entries());
      return new ResponseContext(response.status, headers, {
        text: () => Promise.resolve(content.toString("utf8")),
        binary: () => Promise.resolve(content),
        stream: () => null,
      });
    };
    this.#api = new library.CoreV1Api(
      createConfiguration({
        baseServer: new ServerConfiguration(this.#server, {}),
        httpApi: wrapHttpLibrary({ send }),
      }),
    );
  }

  createPod(pod: V1Pod): Promise<V1Pod> {
    return answer(this.#api.createNamespacedPod({ namespace: this.namespace, body: pod }));
  }

  /** All Pods with the label, and the point in time from which a watch misses nothing. */
  async listPods(labelSelector: string): Promise<{ pods: V1Pod[]; resourceVersion: string }> {
    const list = await answer(this.#api.listNamespacedPod({ namespace: this.namespace, labelSelector }));
    return { pods: list.items, resourceVersion: list.metadata?.resourceVersion ?? "0" };
  }

  /** Null when there is none. */
  async getPod(name: string): Promise<V1Pod | null> {
    try {
      return await answer(this.#api.readNamespacedPod({ namespace: this.namespace, name }));
    } catch (error) {
      if (error instanceof KubernetesError && error.status === 404) return null;
      throw error;
    }
  }

  /**
   * Asks for the end of a Pod; false when there is none. With `uid`, of this very one: another of the name stays. With
   * `force`, it is forgotten at once, whatever its node says.
   */
  async deletePod(name: string, options: { uid?: string | undefined; force?: boolean } = {}): Promise<boolean> {
    const { uid, force = false } = options;
    try {
      await answer(
        this.#api.deleteNamespacedPod({
          namespace: this.namespace,
          name,
          body: {
            ...(uid === undefined ? {} : { preconditions: { uid } }),
            ...(force ? { gracePeriodSeconds: 0 } : {}),
          },
        }),
      );
      return true;
    } catch (error) {
      if (error instanceof KubernetesError && (error.status === 404 || error.status === 409)) return false;
      throw error;
    }
  }

  /**
   * What happens to Pods with the label after `resourceVersion`, until the server ends the watch after `seconds` or the
   * signal aborts. The first event is a bookmark at that point, once the watch is open. Throws KubernetesError with status
   * 410 when that point is too long ago.
   */
  async *watchPods(
    labelSelector: string,
    resourceVersion: string,
    seconds: number,
    signal: AbortSignal,
  ): AsyncGenerator<PodEvent> {
    const query = new URLSearchParams({
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(seconds),
      labelSelector,
      resourceVersion,
    });
    const path = `/api/v1/namespaces/${this.namespace}/pods?${query.toString()}`;
    const response = await this.#fetch(this.#server + path, { signal });
    if (!response.ok) throw refusal(response.status, await response.text());
    yield { type: "BOOKMARK", pod: { metadata: { resourceVersion } } };
    for await (const line of lines(response)) {
      const { type, object } = JSON.parse(line) as { type: string; object: V1Pod };
      if (type === "ERROR") throw refusal(410, JSON.stringify(object));
      yield { type, pod: object } as PodEvent;
    }
  }

  /** Any other call of the API, as JSON, with the server's clock as it answered; null when it does not say. */
  async call(method: "GET" | "POST", path: string, body?: object): Promise<{ body: unknown; serverMs: number | null }> {
    const response = await this.#fetch(this.#server + path, {
      method,
      signal: AbortSignal.timeout(ANSWER_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
    });
    const text = await response.text();
    if (!response.ok) throw refusal(response.status, text);
    const date = Date.parse(response.headers.get("date") ?? "");
    return { body: JSON.parse(text) as unknown, serverMs: Number.isNaN(date) ? null : date };
  }

  /** Credentials are taken anew each time: a service account's token is replaced within the hour. */
  async #fetch(url: string, init: RequestInit): Promise<Response> {
    const options: Parameters<KubeConfig["applyToHTTPSOptions"]>[0] = { headers: {} };
    await this.#config.applyToHTTPSOptions(options);
    const { ca, cert, key, rejectUnauthorized, servername } = options;
    const basic = typeof options.auth === "string" ? { Authorization: `Basic ${btoa(options.auth)}` } : {};
    const headers = { ...(init.headers as Record<string, string>), ...(options.headers as object), ...basic };
    const tls = { ca, cert, key, rejectUnauthorized, servername };
    const given = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
    try {
      return await fetch(url, { ...init, headers, tls: given, timeout: false });
    } catch (error) {
      throw unreachable(error);
    }
  }
}

/** A watch's lines, each one JSON document. */
async function* lines(response: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for await (const chunk of response.body ?? []) {
      const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      for (const line of parts) if (line !== "") yield line;
    }
  } catch (error) {
    throw unreachable(error);
  }
}

async function answer<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof KubernetesError) throw error;
    const { code, body } = error as { code?: unknown; body?: unknown };
    if (typeof code !== "number") throw unreachable(error);
    throw refusal(code, typeof body === "string" ? body : JSON.stringify(body));
  }
}

/** The API server answers with a `Status` object. */
function refusal(status: number, body: string): KubernetesError {
  try {
    const { code, reason, message } = JSON.parse(body) as { code?: number; reason?: string; message?: string };
    return new KubernetesError(code ?? status, reason ?? "", message ?? STATUS_CODES[status] ?? String(status));
  } catch {
    return new KubernetesError(status, "", STATUS_CODES[status] ?? String(status));
  }
}

function unreachable(cause: unknown): KubernetesError {
  return new KubernetesError(0, "", "the Kubernetes API can't be reached", cause);
}
