import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { executorToken } from "../../src/provisioners/kubernetes/names.ts";
import { podManifest } from "../../src/provisioners/kubernetes/pod.ts";
import { apply, fileOf, kubectl, mayInstall, removeInstallation, SYSTEM, tryKubectl } from "./cluster.ts";

const RUNTIME = ["-n", "sandbox-runtime"];
const PYTHON = "python:3.11-slim-bookworm";
const CONNECT = `
import socket, sys
host, port = sys.argv[1:]
try:
    socket.create_connection((host, int(port)), 3).close()
    print("open")
except OSError as error:
    print("closed:", error)
`;

/** A Pod that can be asked to connect to something, and listens on 8000 itself. */
function peer(name: string, namespace: string, app: string): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: { app } },
    spec: {
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } },
      containers: [
        {
          name: "it",
          image: PYTHON,
          command: ["python3", "-m", "http.server", "8000"],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
        },
      ],
    },
  };
}

function session(name: string): object {
  const limits = { cpuCores: 0.5, memoryBytes: 256 * 1024 ** 2, diskBytes: 256 * 1024 ** 2, maxProcesses: 64 };
  const purpose = { sessionId: name, createdAt: "", attempt: 1 };
  const request = { purpose, name, image: "sandbox-template-python-basic:latest", limits };
  return podManifest(
    { ...request, token: executorToken("a secret of this test", name) },
    {
      namespace: "sandbox-runtime",
      executorImage: "sandbox-control-plane:latest",
      runtimeClass: null,
      outputLimitBytes: 1_000_000,
      journalLimitBytes: 1_000_000,
      maxWaiting: 1,
      logLevel: "info",
    },
  );
}

async function addressOf(pod: string, namespace: string[]): Promise<string> {
  await kubectl(["wait", `pod/${pod}`, ...namespace, "--for=condition=Ready", "--timeout=60s"]);
  return kubectl(["get", "pod", pod, ...namespace, "-o", "jsonpath={.status.podIP}"]);
}

async function serviceAddress(name: string, namespace: string): Promise<string> {
  return kubectl(["get", "service", name, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}"]);
}

/** Whether a connection can be made from a peer, once policies have had a moment to be in force. */
async function isOpen(from: string, namespace: string[], host: string, port: number): Promise<boolean> {
  const said = await kubectl(["exec", from, ...namespace, "--", "python3", "-c", CONNECT, host, String(port)]);
  return said.trim() === "open";
}

describe.skipIf(!(await mayInstall()))("who reaches whom", () => {
  const address: Record<string, string> = {};

  beforeAll(async () => {
    for (const number of ["00", "01", "02", "09", "08", "07"]) await kubectl(["apply", "-f", await fileOf(number)]);
    await apply(peer("control", "sandbox-system", "sandbox-control-plane"), peer("other", "sandbox-system", "other"));
    await apply(peer("inside", "sandbox-runtime", "any"), session("sandbox-one"), session("sandbox-two"));
    for (const name of ["control", "other"]) address[name] = await addressOf(name, SYSTEM);
    for (const name of ["inside", "sandbox-one", "sandbox-two"]) address[name] = await addressOf(name, RUNTIME);
    for (const name of ["mariadb", "minio"]) {
      await kubectl(["rollout", "status", `deployment/${name}`, ...SYSTEM, "--timeout=180s"]);
      address[name] = await serviceAddress(name, "sandbox-system");
    }
    address["api"] = await serviceAddress("kubernetes", "default");
    address["dns"] = await serviceAddress("kube-dns", "kube-system");
  }, 300_000);

  afterAll(removeInstallation, 180_000);

  test("a sandbox reaches nothing", async () => {
    const targets: [string, string, number][] = [
      ["the internet", "1.1.1.1", 443],
      ["the metadata service", "169.254.169.254", 80],
      ["the API server", address["api"] ?? "", 443],
      ["DNS", address["dns"] ?? "", 53],
      ["the control plane", address["control"] ?? "", 8000],
      ["MariaDB", address["mariadb"] ?? "", 3306],
      ["MinIO", address["minio"] ?? "", 9000],
      ["MinIO's console", address["minio"] ?? "", 9001],
      ["another sandbox", address["sandbox-two"] ?? "", 8700],
    ];
    const found = await Promise.all(
      targets.map(async ([what, host, port]) => [what, await isOpen("inside", RUNTIME, host, port)]),
    );
    expect(found).toEqual(targets.map(([what]) => [what, false]));
  }, 60_000);

  test("the control plane reaches a sandbox, whose executor asks for its token", async () => {
    expect(await isOpen("control", SYSTEM, address["sandbox-one"] ?? "", 8700)).toBe(true);
    expect(await isOpen("control", SYSTEM, address["sandbox-one"] ?? "", 8000)).toBe(false);
    const ask = `import urllib.request as u
try: print(u.urlopen("http://${address["sandbox-one"]}:8700/health", timeout=3).status)
except u.HTTPError as error: print(error.code)`;
    expect((await kubectl(["exec", "control", ...SYSTEM, "--", "python3", "-c", ask])).trim()).toBe("401");
  }, 60_000);

  test("nobody else does", async () => {
    expect(await isOpen("other", SYSTEM, address["sandbox-one"] ?? "", 8700)).toBe(false);
    expect(await isOpen("other", SYSTEM, address["inside"] ?? "", 8000)).toBe(false);
  }, 60_000);

  test("MariaDB and MinIO are there for the control plane alone", async () => {
    for (const [name, port] of [
      ["mariadb", 3306],
      ["minio", 9000],
    ] as const) {
      expect([name, await isOpen("control", SYSTEM, address[name] ?? "", port)]).toEqual([name, true]);
      expect([name, await isOpen("other", SYSTEM, address[name] ?? "", port)]).toEqual([name, false]);
    }
  }, 60_000);

  test("a sandbox has no service account and finds no services", async () => {
    const pod = JSON.parse(await kubectl(["get", "pod", "sandbox-one", ...RUNTIME, "-o", "json"])) as {
      spec: { volumes: { name: string }[]; enableServiceLinks: boolean };
    };
    expect(pod.spec.volumes.map((volume) => volume.name).toSorted()).toEqual(["data", "shm", "tmp", "workspace"]);
    expect(pod.spec.enableServiceLinks).toBe(false);
  });

  test("kubectl may not run anything in a sandbox as the control plane", async () => {
    const as = "--as=system:serviceaccount:sandbox-system:sandbox-control-plane";
    const said = await tryKubectl(["exec", "sandbox-one", ...RUNTIME, as, "--", "true"]);
    expect(said.stderr).toContain("forbidden");
  });
});
