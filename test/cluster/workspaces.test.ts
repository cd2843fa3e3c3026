import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { openS3Objects } from "../../src/objects/s3.ts";
import type { Objects } from "../../src/objects/objects.ts";
import { Client, type Json } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { MariaDb, mariaDbMissing, Minio, minioMissing } from "../services.ts";
import { eventually, HAS_CLUSTER, kubectl, newNamespace } from "./cluster.ts";
import { IMAGE, OPTIONS } from "./session.ts";

const missing = HAS_CLUSTER ? (mariaDbMissing ?? minioMissing) : "no cluster";
const BUCKET = "workspaces";

describe.skipIf(missing !== null)(`files of sessions in Pods${missing === null ? "" : ` (${missing})`}`, () => {
  let namespace: Awaited<ReturnType<typeof newNamespace>>;
  let db: MariaDb;
  let minio: Minio;
  let objects: Objects;
  let replicas: Server[];
  /** Two replicas of one service. */
  let one: Client;
  let other: Client;

  beforeAll(async () => {
    [namespace, db, minio] = await Promise.all([newNamespace(), MariaDb.start(), Minio.start()]);
    replicas = [await replica()];
    replicas.push(await replica());
    [one, other] = replicas.map(({ url }) => new Client(url)) as [Client, Client];
    await one.call("PUT", "/templates/python-basic", { image_url: IMAGE });
    objects = await openS3Objects({
      endpointUrl: minio.url,
      publicEndpointUrl: minio.url,
      accessKeyId: Minio.accessKeyId,
      secretAccessKey: Minio.secretAccessKey,
      region: "us-east-1",
      bucket: BUCKET,
    });
  }, 120_000);

  afterAll(async () => {
    await Promise.all(replicas.map((server) => server.stop()));
    await Promise.all([namespace.dispose(), db.stop(), minio.stop()]);
  }, 60_000);

  function replica(env: Record<string, string> = {}): Promise<Server> {
    return startServer({
      env: {
        KUBECONFIG: process.env["KUBECONFIG"] ?? "",
        PROVISIONER: "kubernetes",
        KUBERNETES_NAMESPACE: namespace.name,
        EXECUTOR_TOKEN_SECRET: OPTIONS.tokenSecret.replaceAll(" ", "-"),
        EXECUTOR_IMAGE: OPTIONS.executorImage,
        DATABASE_URL: db.url(),
        S3_ENDPOINT_URL: minio.url,
        S3_PUBLIC_ENDPOINT_URL: minio.url.replace("127.0.0.1", "localhost"),
        S3_ACCESS_KEY_ID: Minio.accessKeyId,
        S3_SECRET_ACCESS_KEY: Minio.secretAccessKey,
        S3_BUCKET: BUCKET,
        ...env,
      },
    });
  }

  const newSession = (fields: Json = {}) => one.session({ cpu: "0.5", memory: "256Mi", disk: "256Mi", ...fields });
  const put = async (client: Client, session: string, path: string, body: Bun.BodyInit) =>
    (await client.raw("PUT", `/sessions/${session}/files/${path}`, body)).status;
  const read = async (client: Client, session: string, path: string, headers: Record<string, string> = {}) => {
    const answer = await client.raw("GET", `/sessions/${session}/files/${path}`, undefined, headers);
    return { status: answer.status, length: answer.headers.get("content-length"), text: await answer.text() };
  };
  const shell = (client: Client, session: string, code: string) => client.run(session, code, { language: "shell" });
  /** As when its node is lost: at once, and without a chance to say anything. */
  const killPod = async (session: string): Promise<void> => {
    const { body } = await one.get(`/sessions/${session}`);
    const pod = body["pod_name"] as string;
    await kubectl(["-n", namespace.name, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false"]);
  };
  const versionsOf = async (session: string): Promise<number[]> => {
    const found: number[] = [];
    for await (const workspace of objects.workspaces())
      if (workspace.startsWith(`${session}.`)) found.push(...(await objects.versions(workspace)));
    return found;
  };
  const storedAfter = (session: string, before: number[]) =>
    eventually(
      "another version",
      10,
      async () => ((await versionsOf(session)).at(-1) ?? 0) > (before.at(-1) ?? 0) || null,
    );

  test("a session whose Pod is killed has its files, image and variables again; what ran ends as crashed", async () => {
    const session = await newSession({ env_vars: { GREETING: "hello" } });
    expect(await put(one, session, "in/data.csv", "a,b\n")).toBe(201);
    const before = await versionsOf(session);
    await shell(one, session, "mkdir empty; ln -s in/data.csv link; echo '#!/bin/sh' >run; chmod 755 run; : >in/none");
    await storedAfter(session, before);
    const running = await one.submit(session, "print('started', flush=True)\nimport time\ntime.sleep(60)");
    for await (const { type } of one.events(running)) if (type === "stdout") break;
    await killPod(session);
    const again = await shell(other, session, "ls -F; stat -c %a run; cat link; echo $GREETING; ls in");
    expect([again["status"], again["stdout"]]).toEqual([
      "completed",
      "empty/\nin/\nlink@\nrun*\n755\na,b\nhello\ndata.csv\nnone\n",
    ]);
    const crashed = await eventually("its end", 20, async () => {
      const { body } = await other.get(`/executions/${running}`);
      return body["status"] === "running" ? null : body;
    });
    expect(crashed).toMatchObject({ status: "crashed", exit_code: null, stdout: "started\n" });
    await one.call("DELETE", `/sessions/${session}`);
  }, 90_000);

  test("a change that was answered survives the Pod, wherever it was asked for", async () => {
    const session = await newSession();
    const clients = [one, other];
    const files = Array.from({ length: 12 }, (_, i) => `f${i}`);
    const statuses = await Promise.all(files.map((name, i) => put(clients[i % 2] ?? one, session, name, `text ${i}`)));
    expect(statuses).toEqual(files.map(() => 201));
    expect((await other.raw("DELETE", `/sessions/${session}/files/f0`)).status).toBe(204);
    expect((await one.post(`/sessions/${session}/files/move`, { from: "f1", to: "d/moved" })).status).toBe(200);
    expect((await one.post(`/sessions/${session}/files/mkdir`, { path: "made" })).status).toBe(200);
    await killPod(session);
    const { body } = await other.get(`/sessions/${session}/files`);
    const names = body["files"].map((file: Json) => file["container_path"].replace("/workspace/", "")).toSorted();
    expect(names).toEqual([...files.slice(2), "d", "d/moved", "made"].toSorted());
    expect((await read(one, session, "d/moved")).text).toBe("text 1");
    await one.call("DELETE", `/sessions/${session}`);
  }, 60_000);

  test("the files of a session that has ended are listed and read from the store, until it is deleted", async () => {
    const session = await newSession();
    await put(one, session, "kept.txt", "0123456789");
    // What runs when the end comes has its last files, too.
    await one.submit(
      session,
      "open('last', 'w').write('last')\nprint('written', flush=True)\nimport time\ntime.sleep(60)",
    );
    await eventually("the file", 10, async () => ((await read(one, session, "last")).text === "last" ? true : null));
    expect((await other.post(`/sessions/${session}/terminate`)).body["status"]).toBe("terminated");
    for (const client of [one, other]) {
      const { body } = await client.get(`/sessions/${session}/files`);
      expect(body["files"].map((file: Json) => [file["name"], file["size"], file["mode"]])).toEqual([
        ["kept.txt", 10, "0644"],
        ["last", 4, "0644"],
      ]);
      expect(await read(client, session, "kept.txt")).toEqual({ status: 200, length: "10", text: "0123456789" });
      const part = await read(client, session, "kept.txt", { Range: "bytes=2-4" });
      expect(part).toEqual({ status: 206, length: "3", text: "234" });
      expect((await read(client, session, "nothing")).status).toBe(404);
      expect(await put(client, session, "new", "x")).toBe(409);
    }
    expect((await versionsOf(session)).length).toBeGreaterThan(0);
    expect((await one.raw("DELETE", `/sessions/${session}`)).status).toBe(204);
    expect(await versionsOf(session)).toEqual([]);
    expect((await read(one, session, "kept.txt")).status).toBe(404);
  }, 60_000);

  test("downloads from a Pod have their length, small and large, and URLs of the store give the same bytes", async () => {
    const session = await newSession();
    const large = crypto.getRandomValues(new Uint8Array(65_536));
    const bytes = Buffer.concat(Array.from({ length: 256 }, () => large));
    await put(one, session, "large name.bin", bytes);
    await put(one, session, "small", "small");
    const whole = await one.raw("GET", `/sessions/${session}/files/large%20name.bin`);
    expect(whole.headers.get("content-length")).toBe(String(bytes.length));
    expect(Buffer.from(await whole.arrayBuffer()).equals(bytes)).toBe(true);
    expect(await read(one, session, "small")).toEqual({ status: 200, length: "5", text: "small" });
    const presigned = async () => {
      const { status, body } = await other.get(`/sessions/${session}/files/large%20name.bin?presign=true`);
      expect([status, body["file_path"], body["size"]]).toEqual([200, "large name.bin", bytes.length]);
      expect(Date.parse(body["expires_at"])).toBeGreaterThan(Date.now());
      expect(body["presigned_url"]).toStartWith("http://localhost:");
      const answer = await fetch(body["presigned_url"]);
      expect(answer.headers.get("content-disposition")).toContain("large name.bin");
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
    };
    await presigned();
    expect((await one.get(`/sessions/${session}/files/none?presign=true`)).body["code"]).toBe("file_not_found");
    await one.post(`/sessions/${session}/terminate`);
    await presigned();
    await one.call("DELETE", `/sessions/${session}`);
  }, 60_000);

  test("without the store programs go on, changes are refused, and files are stored once it is back", async () => {
    const session = await newSession();
    await put(one, session, "before", "x");
    const before = await versionsOf(session);
    await minio.kill();
    try {
      expect(await shell(one, session, "echo meanwhile | tee during")).toMatchObject({ stdout: "meanwhile\n" });
      expect(await put(one, session, "refused", "x")).toBe(503);
    } finally {
      await minio.start();
    }
    await storedAfter(session, before);
    await killPod(session);
    expect((await shell(other, session, "cat during"))["stdout"]).toBe("meanwhile\n");
    await one.call("DELETE", `/sessions/${session}`);
  }, 90_000);

  test("what a replica had yet to store when it was killed, the next that starts stores", async () => {
    const session = await newSession();
    await put(one, session, "before", "x");
    const before = await versionsOf(session);
    const doomed = await replica();
    const ran = await shell(new Client(doomed.url), session, "echo left >left");
    doomed.process.kill("SIGKILL");
    expect(ran["status"]).toBe("completed");
    await doomed.process.exited;
    expect(await versionsOf(session)).toEqual(before);
    const next = await replica();
    await storedAfter(session, before);
    await killPod(session);
    expect((await read(other, session, "left")).text).toBe("left\n");
    await Promise.all([doomed.stop(), next.stop()]);
    await one.call("DELETE", `/sessions/${session}`);
  }, 60_000);

  test("a replica collects what nothing names, and nothing else", async () => {
    const session = await newSession();
    await put(one, session, "kept", "named by a version");
    const { sha256 } = await objects.put(new Blob(["named by nothing"]).stream());
    await objects.putManifest("gone.1", { version: 1, created_at: new Date().toISOString(), entries: [] });
    await Bun.sleep(1100);
    const collector = await replica({ OBJECT_GRACE_SECONDS: "1" });
    try {
      await eventually("a collection", 45, async () => ((await objects.has(sha256)) === null ? true : null));
      expect(await objects.versions("gone.1")).toEqual([]);
    } finally {
      await collector.stop();
    }
    await killPod(session);
    expect((await read(other, session, "kept")).text).toBe("named by a version");
    await one.call("DELETE", `/sessions/${session}`);
  }, 90_000);
});
