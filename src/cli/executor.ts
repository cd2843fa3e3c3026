import { writeFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, loadConfig, takeFlags, type Config } from "../config.ts";
import { openDataDirectory, type DataDirectory } from "../data-directory.ts";
import { HttpExecutor } from "../executor/client.ts";
import { BwrapJail } from "../executor/jail/bwrap.ts";
import type { Jail } from "../executor/jail/jail.ts";
import { takeExecutorLock, type ExecutorLock } from "../executor/lock.ts";
import { LogFile } from "../executor/log-file.ts";
import type { Listen } from "../executor/server.ts";
import { sayReady } from "../executor/spawn.ts";
import { startExecutor, type StartedExecutor } from "../executor/start.ts";
import { createLog } from "../log.ts";
import { VERSION } from "../version.ts";

const LOG_BYTES = 16 * 1024 * 1024;
/** How long to wait for an executor that is ending its sandboxes to let go of the data directory. */
const LOCK_WAIT_MS = 15_000;
const LOCK_RETRY_MS = 20;
/** Without requests for this long, and with nothing running, an executor leaves. */
const IDLE_MS = 15 * 60_000;
const IDLE_CHECK_MS = 30_000;
const MIN_TOKEN_LENGTH = 32;

const HELP = `sandbox executor: the process beside the code, started by sandbox serve when it is needed

Usage: sandbox executor [--data-dir DIR] [--listen HOST:PORT]

  --listen HOST:PORT   serve TCP instead of DIR/executor/socket; every request needs the token in EXECUTOR_TOKEN,
                       of at least ${MIN_TOKEN_LENGTH} characters

It takes the settings of sandbox serve that concern it (DATA_DIR, OUTPUT_LIMIT_BYTES, JOURNAL_LIMIT_BYTES,
MAX_WAITING_PER_SESSION, SANDBOX_UID_BASE, DISABLE_BWRAP, ALLOW_UNISOLATED, LOG_LEVEL), as flags or variables.
`;

/** `sandbox executor`: keeps sandboxes until it is told to end or nobody needs it. Throws ConfigError. */
export async function executorCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  if (rest.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  const config = loadConfig(process.env, flags);
  process.umask(0o022);
  const asRoot = process.getuid?.() === 0 && !config.disableBwrap;
  const directory = openDataDirectory(config.dataDir, { sandboxUsers: asRoot });
  const { listen, token } = listenOptions(rest, directory);
  const lock = await lockOf(directory);
  if (lock === null)
    throw new ConfigError(`DATA_DIR=${directory.path} has an executor already: end it or choose another directory`);
  try {
    return await keepSandboxes(config, directory, listen, token);
  } finally {
    lock.release();
  }
}

async function keepSandboxes(
  config: Config,
  directory: DataDirectory,
  listen: Listen,
  token: string | null,
): Promise<number> {
  const file = new LogFile(join(directory.executor, "log"), LOG_BYTES);
  const log = createLog({ level: config.logLevel, format: "json", write: (line) => file.write(line) });
  for (const event of ["uncaughtException", "unhandledRejection"] as const)
    process.on(event, (error: unknown) => log.error("executor.fault", { event, error }));
  const pidFile = join(directory.executor, "pid");
  const executor = await startExecutor({
    ...config,
    journalsDir: directory.journals,
    listen,
    token,
    jail: await jailOf(config, directory),
    maxWaiting: config.maxWaitingPerSession,
    recoverSinceMs: statSync(pidFile, { throwIfNoEntry: false })?.mtimeMs ?? 0,
    version: VERSION,
    log,
  });
  writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
  log.info("executor.listening", { pid: process.pid, version: VERSION, data_dir: directory.path });
  sayReady();
  log.info("executor.ending", { because: await endOf(executor) });
  await executor.close();
  log.info("executor.ended");
  return 0;
}

/** Why this process is to end, once it is. */
function endOf(executor: StartedExecutor): Promise<string> {
  return new Promise((resolve) => {
    process.on("SIGHUP", () => {});
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve(signal));
    void executor.told.then(() => resolve("told to"));
    const timer = setInterval(() => {
      if (executor.idleMs() >= IDLE_MS) resolve("idle");
    }, IDLE_CHECK_MS);
    timer.unref();
  });
}

/** The lock, also of an executor that ends meanwhile; null when another one takes requests. */
async function lockOf(directory: DataDirectory): Promise<ExecutorLock | null> {
  const end = performance.now() + LOCK_WAIT_MS;
  for (;;) {
    const lock = takeExecutorLock(join(directory.executor, "lock"));
    if (lock !== null || performance.now() > end || (await isServed(directory))) return lock;
    await Bun.sleep(LOCK_RETRY_MS);
  }
}

async function isServed(directory: DataDirectory): Promise<boolean> {
  try {
    await new HttpExecutor({ unix: join(directory.executor, "socket") }).health(AbortSignal.timeout(1000));
    return true;
  } catch {
    return false;
  }
}

function listenOptions(rest: string[], directory: DataDirectory): { listen: Listen; token: string | null } {
  const [flag, address, ...more] = rest.flatMap((word) =>
    word.startsWith("--listen=") ? ["--listen", word.slice(9)] : [word],
  );
  if (flag === undefined) return { listen: { unix: join(directory.executor, "socket") }, token: null };
  const [, hostname, port] = /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(address ?? "") ?? [];
  if (flag !== "--listen" || more.length > 0 || hostname === undefined)
    throw new ConfigError(`sandbox executor ${rest.join(" ")} is not valid: allowed is --listen HOST:PORT`);
  const token = process.env["EXECUTOR_TOKEN"] ?? "";
  if (token.length < MIN_TOKEN_LENGTH)
    throw new ConfigError(
      `EXECUTOR_TOKEN is too short: with --listen it needs at least ${MIN_TOKEN_LENGTH} characters`,
    );
  return { listen: { hostname, port: Number(port) }, token };
}

/** How sandboxes are isolated. Throws ConfigError when they can't be as they must. */
async function jailOf(config: Config, directory: DataDirectory): Promise<Jail> {
  if (config.disableBwrap)
    throw new ConfigError("DISABLE_BWRAP=true is not possible in this version: allowed is false");
  try {
    return await BwrapJail.open({ dataDir: directory.path, uidBase: config.sandboxUidBase });
  } catch (error) {
    throw new ConfigError(error instanceof Error ? error.message : String(error));
  }
}
