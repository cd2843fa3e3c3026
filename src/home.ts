import { ConfigError, type Config } from "./config.ts";
import { lockDataDirectory, openDataDirectory, type DataDirectory } from "./data-directory.ts";
import { resolveImage } from "./executor/images.ts";
import { hostIndexUrl } from "./executor/layers/package-index.ts";
import { ensureExecutor } from "./executor/spawn.ts";
import type { Log } from "./log.ts";
import type { Objects } from "./objects/objects.ts";
import type { Provisioner } from "./provisioners/provisioner.ts";
import { isLive } from "./sessions/session.ts";
import { StoredLayers } from "./workspaces/stored-layers.ts";
import { SqlSessionStore } from "./stores/session-store.ts";
import type { Sql } from "./stores/sql.ts";
import { restoreWorkspace } from "./workspaces/restore.ts";

/** What the service stands on: the only part of it that differs between one machine and a cluster. */
export type Home = {
  sql: Sql;
  objects: Objects;
  provisioner: Provisioner;
  /** No other process can have leases: the data directory is locked by this one. */
  isAlone: boolean;
  /** Something of it is kept in the data directory. */
  isEdge: boolean;
  /** Resolves when sandboxes can be made. */
  ready(): Promise<void>;
  close(): Promise<void>;
};

/** Whether something of the service is kept in the data directory. */
export function keepsHere(config: Config): boolean {
  return config.database.kind === "sqlite" || config.provisioner === "local" || config.s3 === null;
}

/** Opens what the configuration names, each in its own way. Libraries of a cluster are loaded only for one. Throws ConfigError. */
export async function openHome(config: Config, log: Log): Promise<Home> {
  const isEdge = keepsHere(config);
  const directory = isEdge ? openDataDirectory(config.dataDir) : null;
  const lock = directory === null ? null : lockDataDirectory(directory);
  try {
    const sql = await openRecords(config, (error) => log.warn("database.waiting", { error }));
    const objects = await openObjects(config, directory, log);
    const runner =
      config.provisioner === "local" ? await openLocal(config) : await openKubernetes(config, sql, objects, log);
    return {
      sql,
      objects,
      provisioner: runner.provisioner,
      isEdge,
      isAlone: config.database.kind === "sqlite",
      ready: () => runner.ready(),
      close: async () => {
        await runner.close();
        await sql.close();
        lock?.release();
      },
    };
  } catch (error) {
    lock?.release();
    throw error;
  }
}

/**
 * The records that DATABASE_URL names, with their schema brought up to date. A server that can't be reached yet is waited for
 * `waitMs` milliseconds (a minute unless given), and `onWaiting` is told once why. Throws ConfigError.
 */
export async function openRecords(config: Config, onWaiting: (reason: string) => void, waitMs?: number): Promise<Sql> {
  if (config.database.kind === "sqlite") return (await import("./stores/sqlite.ts")).openSqlite(config.database.path);
  const options = { onWaiting, ...(waitMs === undefined ? {} : { waitMs }) };
  return (await import("./stores/mysql.ts")).openMysql(databaseUrl(config, config.database.url), options);
}

/** The database's URL with the password that stands beside it. */
export function databaseUrl({ databasePassword }: Config, given: string): string {
  const url = new URL(given);
  if (url.password === "" && databasePassword !== null) url.password = encodeURIComponent(databasePassword);
  return url.href;
}

async function openObjects(config: Config, directory: DataDirectory | null, log: Log): Promise<Objects> {
  if (config.s3 === null)
    return (await import("./objects/disk.ts")).openDiskObjects(directory?.objects ?? config.dataDir);
  const onWaiting = (error: unknown): void => log.warn("objects.waiting", { error });
  return (await import("./objects/s3.ts")).openS3Objects(config.s3, { onWaiting });
}

type Runner = { provisioner: Provisioner; ready(): Promise<void>; close(): Promise<void> };

async function openLocal(config: Config): Promise<Runner> {
  const { LocalProvisioner } = await import("./provisioners/local/local-provisioner.ts");
  const provisioner = new LocalProvisioner({
    connect: () => ensureExecutor(config),
    checkImage: (imageUrl) => void resolveImage(config.dataDir, imageUrl),
    maxRunning: config.maxRunningPerSession,
    maxProcesses: config.maxProcesses,
  });
  return {
    provisioner,
    // Started before it is needed, so that the first session does not wait for it.
    ready: async () => void (await provisioner.executorOf()),
    close: () => (config.executorLinger ? Promise.resolve() : provisioner.shutdown()),
  };
}

async function openKubernetes(config: Config, sql: Sql, objects: Objects, log: Log): Promise<Runner> {
  const tokenSecret = config.executorTokenSecret;
  if (tokenSecret === null)
    throw new ConfigError("EXECUTOR_TOKEN_SECRET is unset: it is needed with PROVISIONER=kubernetes");
  const [{ KubernetesClient }, { KubernetesProvisioner }, { SqlWarmPodStore }] = await Promise.all([
    import("./provisioners/kubernetes/client.ts"),
    import("./provisioners/kubernetes/kubernetes-provisioner.ts"),
    import("./stores/warm-pod-store.ts"),
  ]);
  const sessions = new SqlSessionStore(sql);
  const client = await KubernetesClient.open(config.kubernetesNamespace).catch((error: unknown) => {
    const cause = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`PROVISIONER=kubernetes can't be used: ${cause}`);
  });
  const { executorImage, runtimeClass, outputLimitBytes, journalLimitBytes, logLevel } = config;
  const settings = { executorImage, runtimeClass, outputLimitBytes, journalLimitBytes, logLevel, tokenSecret };
  const provisioner = new KubernetesProvisioner(
    client,
    {
      ...settings,
      maxWaiting: config.maxWaitingPerSession,
      maxRunning: config.maxRunningPerSession,
      startTimeoutMs: config.creatingTimeoutMs,
      restore: (session, executor) => restoreWorkspace(objects, session, executor),
      isLive: async (session) => {
        const row = await sessions.get(session.id);
        return row !== null && isLive(row) && row.created_at === session.created_at;
      },
      shelf: new StoredLayers(objects),
      privateRanges: config.privateNetworkRanges,
      indexUrl: config.packageIndexUrl ?? hostIndexUrl(process.env),
      warm: { store: new SqlWarmPodStore(sql), maxProcesses: config.maxProcesses },
    },
    log,
  );
  return {
    provisioner,
    ready: async () => void (await provisioner.list()),
    close: () => provisioner.close(),
  };
}
