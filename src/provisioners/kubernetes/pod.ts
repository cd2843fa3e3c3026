import type { V1Container, V1ObjectMeta, V1Pod, V1ResourceRequirements, V1Volume } from "@kubernetes/client-node";
import type { SandboxLimits } from "../../executor/protocol.ts";
import { ATTEMPT, MANAGED_BY, podUid, SESSION_CREATED_AT, SESSION_ID, TEMPLATE_ID, WARM_POOL } from "./names.ts";

/** What of the service's configuration goes into every Pod. */
export type PodSettings = {
  namespace: string;
  /** Image with the executable, for images that lack it; the control plane's own. */
  executorImage: string;
  /** `runtimeClassName`, such as gvisor or kata; null: the cluster's default. */
  runtimeClass: string | null;
  outputLimitBytes: number;
  journalLimitBytes: number;
  /** Executions of a session that may wait for their turn. */
  maxWaiting: number;
  logLevel: string;
};

export type PodRequest = {
  /** Whose it is: a session's, or nobody's yet. `attempt`: see `ATTEMPT`. */
  purpose: { sessionId: string; createdAt: string; attempt: number } | { templateId: string; pool: string };
  /** See `podName` and `newWarmName`. */
  name: string;
  image: string;
  limits: SandboxLimits;
  /** Bearer token of the executor. */
  token: string;
};

export const EXECUTOR_PORT = 8700;
export const CONTAINER = "sandbox";
/** Where images have the executable and what goes with it, or the init container puts it. */
const RUNTIME_DIR = "/.sandbox";
const DATA_DIR = "/.executor";
const MEBIBYTE = 1024 ** 2;
/** The least that the executor takes as a limit. */
const MIN_LAYERS_MB = 16;
/** Disk beside the session's own: journals, and the executable where it is copied. */
const OWN_DISK_BYTES = 1024 * MEBIBYTE;
/** What of it is for journals. */
const JOURNALS_BYTES = 512 * MEBIBYTE;
/** What a workspace may pass its limit by until the executor has ended what writes, before the kubelet evicts the Pod. */
const OVERRUN_BYTES = 256 * MEBIBYTE;
/** Memory beside the session's own: the executor, which then is not what the kernel finds too large. */
const OWN_MEMORY_BYTES = 64 * MEBIBYTE;
/** The executor takes no notice of SIGTERM, which the code beside it could send as well. */
const GRACE_S = 1;
/** How long a Pod stays bound to a node that is not ready or can't be reached. */
const NODE_LOSS_S = 15;

/** Images that are built with the executable at RUNTIME_DIR (deploy/images), with any registry before them. */
const PREPARED = /^(?:.+\/)?sandbox-template-[a-z0-9][a-z0-9._-]*(?:[:@].*)?$/;

/** The Pod of a session. Nothing in it is bound to the session but name, limits and token. Pure. */
export function podManifest(request: PodRequest, settings: PodSettings): V1Pod {
  const { name, limits } = request;
  const uid = podUid(name);
  const isPrepared = PREPARED.test(request.image);
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: settings.namespace,
      ...description(request),
    },
    spec: {
      restartPolicy: "Never",
      terminationGracePeriodSeconds: GRACE_S,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      hostname: "sandbox",
      // No name can be resolved without a network, and so each fails at once.
      dnsPolicy: "None",
      dnsConfig: { nameservers: ["127.0.0.1"] },
      ...(settings.runtimeClass === null ? {} : { runtimeClassName: settings.runtimeClass }),
      securityContext: {
        runAsNonRoot: true,
        runAsUser: uid,
        runAsGroup: uid,
        seccompProfile: { type: "RuntimeDefault" },
      },
      tolerations: ["not-ready", "unreachable"].map((condition) => ({
        key: `node.kubernetes.io/${condition}`,
        operator: "Exists",
        effect: "NoExecute",
        tolerationSeconds: NODE_LOSS_S,
      })),
      ...(isPrepared ? {} : { initContainers: [copier(limits, settings)] }),
      containers: [container(request, settings, isPrepared)],
      volumes: volumes(limits, isPrepared),
    },
  };
}

function description({ purpose }: PodRequest): Pick<V1ObjectMeta, "labels" | "annotations"> {
  const isWarm = "pool" in purpose;
  return {
    labels: {
      "app.kubernetes.io/name": "sandbox",
      "app.kubernetes.io/component": isWarm ? "warm" : "session",
      ...MANAGED_BY,
    },
    annotations: isWarm
      ? { [WARM_POOL]: purpose.pool, [TEMPLATE_ID]: purpose.templateId }
      : {
          [SESSION_ID]: purpose.sessionId,
          [SESSION_CREATED_AT]: purpose.createdAt,
          [ATTEMPT]: String(purpose.attempt),
        },
  };
}

function container(request: PodRequest, settings: PodSettings, isPrepared: boolean): V1Container {
  const { limits } = request;
  const runtime = isPrepared ? [] : [{ name: "runtime", mountPath: RUNTIME_DIR, readOnly: true }];
  return {
    name: CONTAINER,
    image: request.image,
    imagePullPolicy: "IfNotPresent",
    command: [`${RUNTIME_DIR}/sandbox`, "executor", "--single-sandbox", "--listen", `0.0.0.0:${EXECUTOR_PORT}`],
    args: [
      `--data-dir=${DATA_DIR}`,
      `--output-limit-bytes=${settings.outputLimitBytes}`,
      `--journal-limit-bytes=${settings.journalLimitBytes}`,
      `--journals-limit-mb=${JOURNALS_BYTES / MEBIBYTE}`,
      `--max-waiting-per-session=${settings.maxWaiting}`,
      // Packages count as files of the session do.
      `--layers-limit-mb=${Math.max(MIN_LAYERS_MB, Math.floor(limits.diskBytes / MEBIBYTE))}`,
      `--log-level=${settings.logLevel}`,
    ],
    env: [{ name: "EXECUTOR_TOKEN", value: request.token }],
    workingDir: "/workspace",
    ports: [{ name: "executor", containerPort: EXECUTOR_PORT }],
    resources: resources(limits),
    securityContext: CONFINED,
    volumeMounts: [
      { name: "workspace", mountPath: "/workspace" },
      { name: "tmp", mountPath: "/tmp" },
      { name: "shm", mountPath: "/dev/shm" },
      { name: "data", mountPath: DATA_DIR },
      ...runtime,
    ],
  };
}

/** Puts the executable of the control plane's image where the container finds it. */
function copier(limits: SandboxLimits, settings: PodSettings): V1Container {
  return {
    name: "executable",
    image: settings.executorImage,
    imagePullPolicy: "IfNotPresent",
    args: ["executor", "--install", RUNTIME_DIR],
    resources: resources(limits),
    securityContext: CONFINED,
    volumeMounts: [{ name: "runtime", mountPath: RUNTIME_DIR }],
  };
}

/** CPU and disk are shared out by use; memory that was promised is there. */
function resources(limits: SandboxLimits): V1ResourceRequirements {
  const memory = mebibytes(limits.memoryBytes + OWN_MEMORY_BYTES);
  return {
    requests: {
      cpu: millicores(limits.cpuCores / 10),
      memory,
      "ephemeral-storage": mebibytes(limits.diskBytes / 10),
    },
    limits: {
      cpu: millicores(limits.cpuCores),
      memory,
      "ephemeral-storage": mebibytes(limits.diskBytes + OWN_DISK_BYTES),
    },
  };
}

const CONFINED = {
  allowPrivilegeEscalation: false,
  privileged: false,
  readOnlyRootFilesystem: true,
  runAsNonRoot: true,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

/** `/tmp` and `/dev/shm` are memory, as in a jail: full means ENOSPC there, not the end of the Pod. */
function volumes(limits: SandboxLimits, isPrepared: boolean): V1Volume[] {
  const inMemory = (bytes: number) => ({ medium: "Memory", sizeLimit: mebibytes(bytes) });
  return [
    { name: "workspace", emptyDir: { sizeLimit: mebibytes(limits.diskBytes + OVERRUN_BYTES) } },
    { name: "tmp", emptyDir: inMemory(limits.memoryBytes / 2) },
    { name: "shm", emptyDir: inMemory(limits.memoryBytes / 4) },
    { name: "data", emptyDir: {} },
    ...(isPrepared ? [] : [{ name: "runtime", emptyDir: {} }]),
  ];
}

function millicores(cores: number): string {
  return `${Math.max(1, Math.round(cores * 1000))}m`;
}

function mebibytes(bytes: number): string {
  return `${Math.max(1, Math.round(bytes / MEBIBYTE))}Mi`;
}
