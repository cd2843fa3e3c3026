import { afterEach, describe, expect, test } from "bun:test";
import { chmod, copyFile, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Minio, minioMissing } from "../services.ts";
import { Client, type Json } from "./client.ts";
import { startServer, type Server } from "./server.ts";

let server: Server;
afterEach(() => server.stop());

async function health(): Promise<{ status: number; failing: string[]; checks: Json[] }> {
  const { status, body } = await new Client(server.url).get("/health/detailed");
  const checks = body["checks"] as Json[];
  expect(body["status"]).toBe(status === 200 ? "healthy" : "unhealthy");
  return { status, checks, failing: checks.filter(({ ok }) => ok !== true).map(({ name }) => String(name)) };
}

/** Asks until it is healthy, or not. */
async function untilHealth(status: number): Promise<Awaited<ReturnType<typeof health>>> {
  const end = performance.now() + 30_000;
  for (;;) {
    const now = await health();
    if (now.status === status) return now;
    if (performance.now() > end) throw new Error(`it is ${now.status} for ${now.failing.join(", ")}`);
    await Bun.sleep(100);
  }
}

async function untilReady(status: number): Promise<Json> {
  const end = performance.now() + 30_000;
  for (;;) {
    const answer = await fetch(`${server.url}/readyz`);
    if (answer.status === status) return (await answer.json()) as Json;
    if (performance.now() > end) throw new Error(`/readyz is ${answer.status}`);
    await Bun.sleep(50);
  }
}

/** A directory with a bwrap of its own that tests can break, for PATH. */
async function ownBwrap(): Promise<{ directory: string; bwrap: string; path: string }> {
  const directory = await mkdtemp("/tmp/health-path-");
  const bwrap = join(directory, "bwrap");
  await chmod(directory, 0o755);
  await copyFile(Bun.which("bwrap") ?? "/usr/bin/bwrap", bwrap);
  return { directory, bwrap, path: `${directory}:${process.env.PATH ?? "/usr/bin:/bin"}` };
}

describe("detailed health", () => {
  test("is healthy with every part looked at, and leaves no object behind", async () => {
    server = await startServer();
    await untilReady(200);
    const { status, checks } = await health();
    expect(status).toBe(200);
    const names = checks.map(({ name }) => String(name));
    for (const name of ["database", "objects", "sandboxes", "executor", "namespaces", "seccomp", "capabilities"])
      expect(names).toContain(name);
    const left = await Array.fromAsync(new Bun.Glob("**/*").scan(join(server.dataDir, "objects")));
    expect(left).toEqual([]);
  });

  test("names the database and objects that can't be written, until they can", async () => {
    server = await startServer({ wrapper: ["sh", "-c", `trap '' XFSZ; exec "$0" "$@"`] });
    await untilReady(200);
    const letFilesHave = (bytes: string): void =>
      void Bun.spawnSync(["prlimit", "--pid", String(server.process.pid), `--fsize=${bytes}:unlimited`]);
    letFilesHave("0");
    expect((await health()).failing).toEqual(["database", "objects"]);
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    letFilesHave("unlimited");
    expect((await health()).failing).toEqual([]);
  });

  test("names the objects that can't be stored, until they can", async () => {
    server = await startServer();
    await untilReady(200);
    const objects = join(server.dataDir, "objects");
    await rename(objects, `${objects}.away`);
    expect(await health()).toMatchObject({ status: 503, failing: ["objects"] });
    // A file in the place of the directory is not something that can be written.
    await writeFile(objects, "");
    expect(await health()).toMatchObject({ status: 503, failing: ["objects"] });
    await rm(objects);
    await rename(`${objects}.away`, objects);
    expect((await health()).status).toBe(200);
  });

  test("names the executor that does not answer, within seconds, until it does", async () => {
    server = await startServer();
    await untilReady(200);
    const pid = await server.executorPid();
    process.kill(pid, "SIGSTOP");
    try {
      const startedMs = performance.now();
      expect(await health()).toMatchObject({ status: 503, failing: ["sandboxes", "executor"] });
      expect(performance.now() - startedMs).toBeLessThan(9000);
      // What needs no executor goes on.
      expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    } finally {
      process.kill(pid, "SIGCONT");
    }
    expect((await untilHealth(200)).failing).toEqual([]);
  }, 40_000);

  test("names what isolates less than it did, and sandboxes that can't be made", async () => {
    const { directory, bwrap, path } = await ownBwrap();
    server = await startServer({ env: { PATH: path } });
    await untilReady(200);
    await rename(bwrap, `${bwrap}.true`);
    const shared = `#!/bin/sh\nfor one; do shift; [ "$one" = --unshare-net ] || set -- "$@" "$one"; done\n`;
    const split = "s/^--unshare-all$/--unshare-user --unshare-ipc --unshare-pid --unshare-uts --unshare-cgroup/";
    await writeFile(bwrap, `${shared}exec ${bwrap}.true $(printf '%s\\n' "$@" | sed '${split}')\n`, { mode: 0o755 });
    const weaker = await untilHealth(503);
    expect(weaker.failing).toEqual(["isolation"]);
    expect(weaker.checks.at(-1)?.["found"]).toMatch(/namespaces: shared with the host: net/);
    await rename(`${bwrap}.true`, bwrap);
    expect((await untilHealth(200)).failing).toEqual([]);
    await rm(directory, { recursive: true });
    const gone = await untilHealth(503);
    expect(gone.failing).toEqual(["isolation"]);
  }, 90_000);

  test.skipIf(minioMissing !== null)(
    minioMissing ?? "names the object store that is away, until it is back",
    async () => {
      const store = await Minio.start();
      server = await startServer({
        env: {
          S3_ENDPOINT_URL: store.url,
          S3_ACCESS_KEY_ID: Minio.accessKeyId,
          S3_SECRET_ACCESS_KEY: Minio.secretAccessKey,
        },
      });
      await untilReady(200);
      expect((await health()).failing).toEqual([]);
      await store.kill();
      expect(await health()).toMatchObject({ status: 503, failing: ["objects"] });
      await store.start();
      expect((await untilHealth(200)).failing).toEqual([]);
      await store.pause();
      expect(await health()).toMatchObject({ status: 503, failing: ["objects"] });
      store.resume();
      await untilHealth(200);
      await store.stop();
    },
    60_000,
  );
});

describe("readiness", () => {
  test("is refused while no executor can be started, and comes with it", async () => {
    const { directory, bwrap, path } = await ownBwrap();
    const aside = join(directory, "aside");
    await mkdir(aside);
    await rename(bwrap, join(aside, "bwrap"));
    await writeFile(bwrap, "#!/bin/sh\necho no jail today >&2\nexit 1\n", { mode: 0o755 });
    server = await startServer({ env: { PATH: path } });
    const { reason } = await untilReady(503).then(async (body) =>
      body["reason"] === "starting" ? untilReason("the executor could not be started") : body,
    );
    expect(reason).toBe("the executor could not be started");
    expect(await health()).toMatchObject({ status: 503 });
    await rename(join(aside, "bwrap"), bwrap);
    await untilReady(200);
    const client = new Client(server.url);
    expect((await client.run(await client.session(), "print(1)"))["stdout"]).toBe("1\n");
    await rm(directory, { recursive: true });
  }, 60_000);

  async function untilReason(wanted: string): Promise<Json> {
    for (;;) {
      const body = await untilReady(503);
      if (body["reason"] === wanted) return body;
      await Bun.sleep(50);
    }
  }
});
