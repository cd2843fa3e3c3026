import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { createServer, type AddressInfo, type Server } from "node:net";
import { Client, type Json } from "../e2e/client.ts";
import { newDataDir, startServer, type Server as Service } from "../e2e/server.ts";
import { LocalIndex } from "../executor/local-index.ts";
import { MariaDb, mariaDbMissing } from "../services.ts";
import { apply, eventually, fileOf, HAS_CLUSTER, kubectl, newNamespace } from "./cluster.ts";
import { IMAGE } from "./session.ts";

/** Says in Python what a GET through the session's proxy answers, also of what would need no proxy. */
const FETCH = `
import os, urllib.request, urllib.error
proxy = urllib.request.ProxyHandler({"http": os.environ["HTTP_PROXY"]})
def handler(event):
    os.environ.pop("no_proxy"), os.environ.pop("NO_PROXY")
    try:
        return urllib.request.build_opener(proxy).open(event["url"], timeout=40).read().decode()
    except urllib.error.HTTPError as error:
        return error.code
`;
const CONNECT = `
import socket
def handler(event):
    try:
        socket.create_connection((event["host"], event["port"]), 2).close()
        return "open"
    except OSError as error:
        return type(error).__name__
`;

describe.skipIf(!HAS_CLUSTER || mariaDbMissing !== null)("sessions in Pods that connect", () => {
  let namespace: Awaited<ReturnType<typeof newNamespace>>;
  let database: MariaDb;
  let index: LocalIndex;
  let origin: Bun.Server<undefined>;
  let echo: Server;
  let echoPort = 0;
  const services: Service[] = [];
  let client: Client;

  beforeAll(async () => {
    [namespace, database] = await Promise.all([newNamespace(), MariaDb.start()]);
    await denyAll(namespace.name);
    index = new LocalIndex();
    await index.wheel("alpha", "1.0", "VALUE = 'one'\ndef say(): print('said')\n");
    await index.source("gamma", "3.1");
    origin = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("from the origin") });
    echo = createServer((socket) => socket.on("error", () => {}).pipe(socket));
    await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
    echoPort = (echo.address() as AddressInfo).port;
    client = new Client((await replica()).url);
    await client.post("/templates", { id: "pod", name: "pod", image_url: IMAGE, runtime_type: "python3.11" });
  }, 120_000);

  afterAll(async () => {
    for (const { process, dataDir } of services) {
      process.kill("SIGKILL");
      await process.exited;
      await rm(dataDir, { recursive: true, force: true });
    }
    await namespace.dispose();
    await database.stop();
    await origin.stop(true);
    echo.close();
    await index.close();
  }, 60_000);

  async function replica(): Promise<Service> {
    const service = await startServer({
      dataDir: await newDataDir(),
      env: {
        PROVISIONER: "kubernetes",
        KUBECONFIG: process.env["KUBECONFIG"] ?? "",
        KUBERNETES_NAMESPACE: namespace.name,
        EXECUTOR_TOKEN_SECRET: "a-secret-of-this-test-alone-long-enough",
        DATABASE_URL: database.url(),
        PYTHON_PACKAGE_INDEX_URL: index.url,
        PRIVATE_NETWORK_RANGES: "127.0.0.1/32",
      },
    });
    services.push(service);
    await eventually("the service is ready", 20, async () => ((await fetch(`${service.url}/readyz`)).ok ? true : null));
    return service;
  }

  const session = (fields: Json): Promise<string> =>
    client.session({ template_id: "pod", memory: "512Mi", disk: "512Mi", ...fields });

  async function fetched(id: string, url: string): Promise<unknown> {
    return (await client.run(id, FETCH, { event: { url } }))["return_value"];
  }

  async function podOf(id: string): Promise<string> {
    return (await client.get(`/sessions/${id}`)).body["pod_name"] as string;
  }

  test("packages are there from the start, and more can be installed", async () => {
    const id = await session({ dependencies: [{ name: "alpha" }] });
    expect((await client.get(`/sessions/${id}`)).body).toMatchObject({
      dependency_install_status: "completed",
      installed_dependencies: [{ name: "alpha", version: "1.0" }],
    });
    expect(await client.run(id, "import alpha\nprint(alpha.VALUE)")).toMatchObject({ stdout: "one\n" });
    expect(await client.run(id, "alpha-say", { language: "shell" })).toMatchObject({ stdout: "said\n" });
    const more = await client.post(`/sessions/${id}/dependencies/install`, { dependencies: [{ name: "gamma" }] });
    expect(more.status).toBe(200);
    expect(more.body["installed_dependencies"]).toMatchObject([{ name: "alpha" }, { name: "gamma", version: "3.1" }]);
    const code = "import alpha, gamma\nprint(alpha.VALUE, gamma.ORIGIN)";
    expect(await client.run(id, code)).toMatchObject({ stdout: "one source\n" });
    const refused = await client.post(`/sessions/${id}/dependencies/install`, { dependencies: [{ name: "nothere" }] });
    expect(refused).toMatchObject({ status: 400, body: { code: "dependency_failed" } });
    expect(refused.body["message"]).toContain("nothere");
    expect(await client.run(id, code)).toMatchObject({ stdout: "one source\n" });
    expect((await client.get(`/sessions/${id}/audit`)).body["items"]).toEqual([]);
  }, 90_000);

  test("packages are there again, in the same versions, when the Pod is replaced", async () => {
    const id = await session({ dependencies: [{ name: "alpha" }] });
    const uid = await kubectl(["get", "pod", await podOf(id), "-n", namespace.name, "-o", "jsonpath={.metadata.uid}"]);
    await index.wheel("alpha", "2.0", "VALUE = 'two'\n");
    await kubectl(["delete", "pod", await podOf(id), "-n", namespace.name, "--wait=true", "--now"]);
    const ran = await client.run(id, "import alpha\nprint(alpha.VALUE)");
    expect(ran).toMatchObject({ status: "completed", stdout: "one\n" });
    const now = await kubectl(["get", "pod", await podOf(id), "-n", namespace.name, "-o", "jsonpath={.metadata.uid}"]);
    expect(now).not.toBe(uid);
  }, 90_000);

  test("a set that another Pod has built for the image is taken from there", async () => {
    await index.wheel("delta", "1.0", "VALUE = 'delta'\n");
    const fields = { dependencies: [{ name: "delta" }] };
    await session(fields);
    const asked = index.asked.length;
    const id = await session(fields);
    expect(index.asked.length).toBe(asked);
    expect((await client.get(`/sessions/${id}`)).body["installed_dependencies"]).toMatchObject([
      { name: "delta", version: "1.0" },
    ]);
    expect(await client.run(id, "import delta\nprint(delta.VALUE)")).toMatchObject({ stdout: "delta\n" });
  }, 60_000);

  test("an installation that fails ends the session, or says so, as asked", async () => {
    const fields = { template_id: "pod", dependencies: [{ name: "nothere" }] };
    const failed = await client.post("/sessions?wait=60", fields);
    expect(failed.body).toMatchObject({ status: "failed", dependency_install_status: "failed" });
    expect(failed.body["error_message"]).toContain("nothere");
    const kept = await client.post("/sessions?wait=60", { ...fields, fail_on_dependency_error: false });
    expect(kept.body).toMatchObject({ status: "running", dependency_install_status: "failed" });
  }, 90_000);

  test("packages count against the session's disk", async () => {
    const large = `VALUE = "${"x".repeat(20 * 1024 ** 2)}"\n`;
    await index.wheel("large", "1.0", large, ["larger"]);
    await index.wheel("larger", "1.0", large);
    const fields = { template_id: "pod", disk: "32Mi", dependencies: [{ name: "large" }] };
    const failed = await client.post("/sessions?wait=60", fields);
    expect(failed.body).toMatchObject({ status: "failed", dependency_install_status: "failed" });
    expect(failed.body["dependency_install_error"]).toContain("disk limit of 32 MiB");
    const id = await session({ disk: "128Mi", dependencies: [{ name: "large" }] });
    expect(await client.run(id, "import larger\nprint(len(larger.VALUE))")).toMatchObject({ stdout: "20971520\n" });
    const put = (megabytes: number) =>
      client.raw("PUT", `/sessions/${id}/files/file`, new Uint8Array(megabytes * 1024 ** 2));
    expect((await put(100)).status).toBe(507);
    expect((await put(10)).status).toBe(201);
  }, 90_000);

  test("the allow-list holds, and each decision is in the audit log", async () => {
    const { port } = origin;
    const id = await session({ network: { allow: [`127.0.0.0/8:${port}`] } });
    expect(await fetched(id, `http://127.0.0.1:${port}/`)).toBe("from the origin");
    expect(await fetched(id, "http://example.com/")).toBe(403);
    expect(await fetched(id, `http://127.0.0.1:${echoPort}/`)).toBe(403);
    expect(await fetched(id, `http://127.0.0.2:${port}/`)).toBe(403);
    const { items } = (await client.get(`/sessions/${id}/audit`)).body as { items: Json[] };
    expect(items).toMatchObject([
      { host: "127.0.0.2", port, allowed: false, reason: "the address is private or special" },
      { host: "127.0.0.1", port: echoPort, method: "GET", allowed: false, address: null },
      { host: "example.com", port: 80, method: "GET", allowed: false, address: null },
      { host: "127.0.0.1", port, method: "GET", allowed: true, address: "127.0.0.1" },
    ]);
  }, 60_000);

  test("a Pod has no way out but its proxy, and without rules not that", async () => {
    const node = await kubectl(["get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}"]);
    const id = await session({});
    for (const [host, port] of [
      ["1.1.1.1", 443],
      [node, 6443],
      ["127.0.0.1", 3128],
    ] as const) {
      const ran = await client.run(id, CONNECT, { event: { host, port } });
      expect([host, ran["return_value"]]).not.toEqual([host, "open"]);
    }
    expect(await client.run(id, "env | grep -ci proxy", { language: "shell" })).toMatchObject({ stdout: "0\n" });
  }, 60_000);

  test("a background process keeps its connection, and gets a new one when the replica dies", async () => {
    const id = await session({ network: { allow: [`127.0.0.1:${echoPort}`] } });
    const keep = `
cat > keep.py <<'END'
import socket, time
n = 0
while True:
    try:
        s = socket.create_connection(("127.0.0.1", 3128), 60)
        s.sendall(b"CONNECT 127.0.0.1:${echoPort} HTTP/1.1\\r\\n\\r\\n")
        assert b" 200 " in s.recv(1000)
        n += 1
        while True:
            s.sendall(b"x")
            if s.recv(1) == b"": break
            open("beats", "a").write(f"{n}\\n")
            time.sleep(0.05)
    except (OSError, AssertionError):
        time.sleep(0.1)
END
setsid python3 keep.py >/dev/null 2>&1 &`;
    await client.run(id, keep, { language: "shell" });
    const beats = async (from: Client): Promise<string[]> => {
      const ran = await from.run(id, "cat beats", { language: "shell" });
      return (ran["stdout"] as string).trim().split("\n");
    };
    await eventually("ten beats", 10, async () => ((await beats(client)).length > 10 ? true : null));
    expect(new Set(await beats(client))).toEqual(new Set(["1"]));
    const other = await replica();
    services[0]?.process.kill("SIGKILL");
    client = new Client(other.url);
    await eventually("beats on another connection", 40, async () =>
      (await beats(client)).includes("2") ? true : null,
    );
    const { items } = (await client.get(`/sessions/${id}/audit`)).body as { items: Json[] };
    expect(items.length).toBeGreaterThanOrEqual(2);
  }, 120_000);
});

/** The policies of the manifests, in a namespace of this test. */
async function denyAll(namespace: string): Promise<void> {
  const text = await Bun.file(await fileOf("09")).text();
  const policies = text.split(/^---$/m).filter((one) => /^kind: NetworkPolicy$/m.test(one));
  await apply(...policies.map((one) => one.replaceAll("namespace: sandbox-runtime", `namespace: ${namespace}`)));
}
