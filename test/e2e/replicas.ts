import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { MariaDb } from "../services.ts";
import { endExecutor, newDataDir, startServer, type Server } from "./server.ts";

/** Replicas of the service on one MariaDB and one executor, as in a cluster any of them reaches any sandbox. */
export type Replicas = {
  /** One more. */
  start(env?: Record<string, string>): Promise<Server>;
  /** Ends those that run, the executor and the database. */
  stop(): Promise<void>;
};

/** Each replica has a data directory of its own, whose executor is that of the first. */
export async function startReplicas(): Promise<Replicas> {
  const database = await MariaDb.start();
  const shared = await newDataDir();
  await mkdir(join(shared, "executor"), { mode: 0o700 });
  const servers: Server[] = [];
  return {
    async start(env = {}) {
      const isFirst = servers.length === 0;
      const dataDir = isFirst ? shared : await newDataDir();
      if (!isFirst) await symlink(join(shared, "executor"), join(dataDir, "executor"));
      const url = { DATABASE_URL: database.url(), EXECUTOR_LINGER: "true" };
      const server = await startServer({ dataDir, env: { ...url, ...env } });
      servers.push(server);
      while ((await fetch(`${server.url}/readyz`)).status !== 200) await Bun.sleep(10);
      return server;
    },
    async stop() {
      for (const server of servers) {
        server.process.kill("SIGKILL");
        await server.process.exited;
      }
      await endExecutor(shared);
      await database.stop();
      for (const { dataDir } of servers) await removeTree(dataDir);
    },
  };
}

async function removeTree(path: string): Promise<void> {
  await Bun.spawn(["rm", "-rf", path]).exited;
}
