import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { S3Config } from "../../src/config.ts";
import type { Objects } from "../../src/objects/objects.ts";
import { openS3Objects } from "../../src/objects/s3.ts";
import { storeVersion } from "../../src/objects/versions.ts";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { backupTools, backupToolsMissing, MariaDb, mariaDbMissing, Minio, minioMissing } from "../services.ts";

const DEPLOY = join(import.meta.dir, "../../deploy");
const missing = mariaDbMissing ?? minioMissing ?? backupToolsMissing;
const PASSWORD = "p@ss:w/rd%";
const TEXT = new TextEncoder().encode("the file of a session");

/** A database, an object store and the service on both. */
type Cluster = { database: MariaDb; store: Minio };

describe.skipIf(missing !== null)(missing ?? "the backup of a cluster's records and objects", () => {
  let home: string;
  const clusters: Cluster[] = [];
  let server: Server | null = null;
  beforeAll(async () => {
    home = await mkdtemp("/tmp/backup-test-");
  });
  afterAll(async () => {
    await server?.stop();
    for (const { database, store } of clusters) await Promise.all([database.stop(), store.stop()]);
    await rm(home, { recursive: true });
  }, 60_000);

  async function newCluster(): Promise<Cluster> {
    const [database, store] = await Promise.all([MariaDb.start(), Minio.start()]);
    clusters.push({ database, store });
    return { database, store };
  }

  async function serveOn({ database, store }: Cluster): Promise<Server> {
    server = await startServer({
      env: {
        DATABASE_URL: database.url(),
        S3_ENDPOINT_URL: store.url,
        S3_ACCESS_KEY_ID: Minio.accessKeyId,
        S3_SECRET_ACCESS_KEY: Minio.secretAccessKey,
      },
    });
    return server;
  }

  function objectsOf({ store }: Cluster): Promise<Objects> {
    const { accessKeyId, secretAccessKey } = Minio;
    const urls = { endpointUrl: store.url, publicEndpointUrl: store.url };
    const config: S3Config = {
      ...urls,
      accessKeyId,
      secretAccessKey,
      region: "us-east-1",
      bucket: "sandbox-workspace",
    };
    return openS3Objects(config);
  }

  /** Runs a line of the guide as it stands there. */
  async function shell(line: string, env: Record<string, string>): Promise<void> {
    const path = [dirname(backupTools.mc), dirname(backupTools.mariadbDump), process.env.PATH].join(":");
    const run = Bun.spawn(["bash", "-euo", "pipefail", "-c", line], {
      env: { PATH: path, HOME: home, MYSQL_PWD: PASSWORD, ...env },
      cwd: home,
      stdout: "pipe",
      stderr: "pipe",
    });
    const said = (await new Response(run.stdout).text()) + (await new Response(run.stderr).text());
    if ((await run.exited) !== 0) throw new Error(`${line}: ${said}`);
  }

  const aliasOf = ({ store }: Cluster): string =>
    store.url.replace("http://", `http://${Minio.accessKeyId}:${Minio.secretAccessKey}@`);
  const at = ({ database }: Cluster): string => `--host=127.0.0.1 --port=${database.port} --user=sandbox`;

  test("restored by the guide's own commands into fresh ones, has everything", async () => {
    const manifest = await Bun.file(join(DEPLOY, "k8s/extras/mariadb-backup.yaml")).text();
    const dump = /^ *(mariadb-dump .*?) *\|$/m.exec(manifest)?.[1] ?? "";
    const read = /gunzip -c "\$file" \| (mariadb .*)$/m.exec(manifest)?.[1] ?? "";
    const guide = await Bun.file(join(DEPLOY, "README.md")).text();
    const mirrors = [...guide.matchAll(/^mc mirror .*$/gm)].map(([line]) => line);
    expect([dump, read, mirrors.length]).toEqual([expect.stringContaining("dump"), expect.any(String), 2]);

    const old = await newCluster();
    const before = new Client((await serveOn(old)).url);
    const key = (await before.post("/keys", { name: "ci", tenant: "default" })).body["key"] as string;
    const headers = { Authorization: `Bearer ${key}` };
    const keyed = new Client(server?.url ?? "", headers);
    const session = await keyed.session({ timeout: 3600 });
    const ended = await keyed.run(session, "print('é 🎉')\ndef handler(event): return {'n': 1}");
    await keyed.post(`/sessions/${session}/terminate`);
    const objects = await objectsOf(old);
    const { sha256 } = await objects.put(new Blob([TEXT]).stream(), { limitBytes: 100 });
    const entries = [{ path: "a.txt", mode: "0644", size: TEXT.length, sha256 }];
    await storeVersion(objects, "w", null, { entries, directories: [], links: [] }, async () =>
      new Blob([TEXT]).stream(),
    );
    await shell(`${dump.replace(/--host=mariadb --user=root/, at(old))} >dump.sql`, {});
    const hosts = { MC_HOST_live: aliasOf(old), MC_HOST_backup: "" };
    const kept = await Minio.start();
    const backup = { database: old.database, store: kept };
    await objectsOf(backup);
    for (const line of mirrors) await shell(line, { ...hosts, MC_HOST_backup: aliasOf(backup) });
    await server?.stop();

    const fresh = await newCluster();
    await objectsOf(fresh);
    await shell(`<dump.sql ${read.replace(/--host=mariadb --user=root/, at(fresh))}`, {});
    for (const line of mirrors) await shell(line, { MC_HOST_live: aliasOf(backup), MC_HOST_backup: aliasOf(fresh) });
    await kept.stop();
    const after = new Client((await serveOn(fresh)).url, headers);
    expect((await after.get(`/executions/${ended["id"]}`)).body).toEqual(ended);
    expect((await after.get(`/sessions/${session}`)).body["status"]).toBe("terminated");
    expect((await new Client(server?.url ?? "").get("/sessions")).status).toBe(401);
    const restored = await objectsOf(fresh);
    expect(await restored.versions("w")).toEqual([1]);
    const blob = await restored.get(sha256);
    expect(new Uint8Array(await new Response(blob?.body).arrayBuffer())).toEqual(TEXT);
    expect((await after.run(await after.session(), "print('on')"))["stdout"]).toBe("on\n");
  }, 120_000);
});
