import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { startApp } from "../app.ts";
import { loadConfig, type Config } from "../config.ts";
import { HttpExecutor } from "../executor/client.ts";
import { removeTree, removeTreeNow } from "../executor/jail/remove-tree.ts";
import { newKey } from "../keys/key.ts";
import { createLog, type Log } from "../log.ts";
import { takeLock } from "../process-lock.ts";

/** A service of this process's own, on loopback and a free port, with a key that only this process knows. */
export type EmbeddedService = {
  url: string;
  key: string;
  dataDir: string;
  /** Ends it and its executor, and removes the directory that was made for it. */
  stop(): Promise<void>;
  /** The same as far as it can be done at once, for a process that is about to exit. */
  abandon(): void;
};

/** Everybody may pass here, as the users of sandboxes must. A directory's name is PREFIX, the pid of its process and more. */
const PARENT = "/tmp";
const PREFIX = "sandbox-run-";
/** How long an executor gets to end its sandboxes. */
const END_MS = 5000;
const ABANDON_MS = 1000;
const CHECK_MS = 5;

/**
 * Starts it on DATA_DIR if that is set, else on a directory for this process alone. Throws ConfigError, and AppError when the
 * executor does not start.
 */
export async function startEmbedded(): Promise<EmbeddedService> {
  await removeAbandoned();
  const given = process.env["DATA_DIR"] ?? "";
  const dataDir = given === "" ? await mkdtemp(join(PARENT, `${PREFIX}${process.pid}-`)) : given;
  const key = newKey();
  try {
    const config = loadConfig({ ...process.env, ...settings(dataDir, key) });
    const app = await startApp(config, logOf(config));
    const stop = async (): Promise<void> => {
      await app.stop();
      await executorEnded(config.dataDir);
      if (given === "") await removeTree(dataDir);
    };
    await app.ready.catch(async (error: unknown) => {
      // What kept the executor from starting is what the caller is to know.
      await stop().catch(() => {});
      throw error;
    });
    return { url: app.url, key, dataDir: config.dataDir, stop, abandon: () => abandon(config.dataDir, given === "") };
  } catch (error) {
    if (given === "") await removeTree(dataDir);
    throw error;
  }
}

/** Silent unless LOG_LEVEL asks for it: what went wrong is in the answer that the caller gets. */
function logOf(config: Config): Log {
  const isAsked = (process.env["LOG_LEVEL"] ?? "") !== "";
  const write = isAsked ? (line: string) => void process.stderr.write(line) : () => {};
  return createLog({ level: config.logLevel, format: "text", write });
}

/** This machine's part of the configuration stays as it is set; what makes it a service for others does not apply. */
function settings(dataDir: string, key: string): Record<string, string> {
  return {
    DATA_DIR: dataDir,
    HOST: "127.0.0.1",
    PORT: "0",
    EXECUTOR_LINGER: "false",
    AUTH_MODE: "auto",
    API_KEYS: `run:${key}`,
    DATABASE_URL: "",
    PROVISIONER: "local",
    S3_ENDPOINT_URL: "",
    REQUESTS_PER_MINUTE: "",
  };
}

/** Resolves when no executor has the data directory any more, after END_MS at the latest. */
async function executorEnded(dataDir: string): Promise<void> {
  const lock = join(dataDir, "executor/lock");
  const end = performance.now() + END_MS;
  while (existsSync(lock) && performance.now() < end) {
    const taken = takeLock(lock);
    taken?.release();
    if (taken !== null) return;
    await Bun.sleep(CHECK_MS);
  }
}

function abandon(dataDir: string, isOwn: boolean): void {
  const pid = readPid(join(dataDir, "executor/pid"));
  if (pid !== null && isRunning(pid)) {
    process.kill(pid, "SIGTERM");
    const end = performance.now() + ABANDON_MS;
    while (isRunning(pid) && performance.now() < end) Bun.sleepSync(CHECK_MS);
    if (isRunning(pid)) process.kill(pid, "SIGKILL");
  }
  if (isOwn) removeTreeNow(dataDir);
}

/** What earlier processes of this user left that were killed before they could end their service. What can't go stays. */
async function removeAbandoned(): Promise<void> {
  for (const name of readdirSync(PARENT)) {
    const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    const path = join(PARENT, name);
    if (pid === undefined || isRunning(Number(pid))) continue;
    if (statSync(path, { throwIfNoEntry: false })?.uid !== process.getuid?.()) continue;
    const executor = new HttpExecutor({ unix: join(path, "executor/socket") });
    // Most often it has ended with its process.
    await executor.shutdown().catch(() => {});
    await executorEnded(path);
    await removeTree(path).catch(() => {});
  }
}

function readPid(path: string): number | null {
  const pid = existsSync(path) ? Number(readFileSync(path, "utf8")) : 0;
  return Number.isInteger(pid) && pid > 1 ? pid : null;
}

/** False also for one that has ended and is not reaped yet. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
