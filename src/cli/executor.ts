import { writeFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { ConfigError, loadConfig, takeFlags, type Config } from "../config.ts";
import { openDataDirectory, type DataDirectory } from "../data-directory.ts";
import { HttpExecutor } from "../executor/client.ts";
import { installRuntime } from "../executor/install.ts";
import { BwrapJail } from "../executor/jail/bwrap.ts";
import { DirectJail } from "../executor/jail/direct.ts";
import type { Jail } from "../executor/jail/jail.ts";
import { LogFile } from "../executor/log-file.ts";
import type { Listen } from "../executor/server.ts";
import { NO_JAIL_EXIT, sayReady } from "../executor/spawn.ts";
import { startExecutor, type StartedExecutor } from "../executor/start.ts";
import { createLog, type Log } from "../log.ts";
import { takeLock, type ProcessLock } from "../process-lock.ts";
import { VERSION } from "../version.ts";

const LOG_BYTES = 16 * 1024 * 1024;
/** How long to wait for an executor that is ending its sandboxes to let go of the data directory. */
const LOCK_WAIT_MS = 15_000;
const LOCK_RETRY_MS = 20;
/** Without requests for this long, and with nothing running, an executor leaves. */
const IDLE_MS = 15 * 60_000;
const IDLE_CHECK_MS = 30_000;
/** How often an executor in a container, whose memory is the session's too, looks whether it can give some back. */
const TIDY_MS = 2000;
const MIN_TOKEN_LENGTH = 32;
const MAX_PORT = 65_535;
/** The workspace of `--single-sandbox`. */
const WORKSPACE = "/workspace";

const HELP = `sandbox executor: the process beside the code, started by sandbox serve when it is needed

Usage: sandbox executor [--data-dir DIR] [--listen HOST:PORT] [--single-sandbox]
       sandbox executor --install DIR

  --listen HOST:PORT   serve TCP instead of DIR/executor/socket; every request needs the token in EXECUTOR_TOKEN,
                       of at least ${MIN_TOKEN_LENGTH} characters
  --single-sandbox     keep one sandbox, in the container that this is process 1 of, with ${WORKSPACE} as its workspace;
                       logs go to stdout
  --install DIR        put into DIR what a container needs for --single-sandbox, which then is DIR/sandbox

It takes the settings of sandbox serve that concern it (DATA_DIR, OUTPUT_LIMIT_BYTES, JOURNAL_LIMIT_BYTES, JOURNALS_LIMIT_MB,
MAX_WAITING_PER_SESSION, SANDBOX_UID_BASE, PYTHON_PACKAGE_INDEX_URL, LAYERS_LIMIT_MB, DISABLE_BWRAP, ALLOW_UNISOLATED,
LOG_LEVEL), as flags or variables.
`;

/** `sandbox executor`: keeps sandboxes until it is told to end or nobody needs it. Throws ConfigError. */
export async function executorCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  if (rest.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  const options = parseOptions(rest);
  if (options.install !== null) {
    await installRuntime(options.install);
    return 0;
  }
  const config = loadConfig(process.env, flags);
  process.umask(0o022);
  const directory = openDataDirectory(config.dataDir);
  const listen = options.listen ?? { unix: join(directory.executor, "socket") };
  const token = options.listen === null ? null : takeToken();
  const lock = await lockOf(directory);
  if (lock === null)
    throw new ConfigError(`DATA_DIR=${directory.path} has an executor already: end it or choose another directory`);
  try {
    return await keepSandboxes(config, directory, { ...options, listen, token });
  } catch (error) {
    if (!(error instanceof NoJail)) throw error;
    process.stderr.write(`sandbox: ${error.message.replaceAll("\n", " ")}\n`);
    return NO_JAIL_EXIT;
  } finally {
    lock.release();
  }
}

type Kept = { listen: Listen; token: string | null; isSingle: boolean };

async function keepSandboxes(config: Config, directory: DataDirectory, kept: Kept): Promise<number> {
  const log = logOf(config, directory, kept.isSingle);
  for (const event of ["uncaughtException", "unhandledRejection"] as const)
    process.on(event, (error: unknown) => log.error("executor.fault", { event, error }));
  const pidFile = join(directory.executor, "pid");
  const executor = await startExecutor({
    ...config,
    journalsDir: directory.journals,
    listen: kept.listen,
    token: kept.token,
    jail: await jailOf(config, directory, kept.isSingle),
    maxWaiting: config.maxWaitingPerSession,
    isTunnelled: kept.isSingle,
    recoverSinceMs: statSync(pidFile, { throwIfNoEntry: false })?.mtimeMs ?? 0,
    version: VERSION,
    log,
  });
  writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
  log.info("executor.listening", { pid: process.pid, version: VERSION, data_dir: directory.path });
  if (!kept.isSingle) sayReady();
  log.info("executor.ending", { because: kept.isSingle ? await toldToEnd(executor) : await endOf(executor) });
  await executor.close();
  log.info("executor.ended");
  return 0;
}

/** A container's log is its stdout. */
function logOf(config: Config, directory: DataDirectory, isSingle: boolean): Log {
  const options = { level: config.logLevel, format: "json" as const };
  if (isSingle) return createLog(options);
  const file = new LogFile(join(directory.executor, "log"), LOG_BYTES);
  return createLog({ ...options, write: (line) => file.write(line) });
}

/** No signal ends the executor of a container, since the code beside it could send one too. */
async function toldToEnd(executor: StartedExecutor): Promise<string> {
  const timer = setInterval(() => tidy(executor), TIDY_MS);
  await executor.told;
  clearInterval(timer);
  return "told to";
}

/** Collects garbage once after programs ran, and not only when the next ones do. */
function tidy(executor: StartedExecutor): void {
  const idleMs = executor.idleMs();
  if (idleMs >= TIDY_MS && idleMs < 2 * TIDY_MS) Bun.gc(true);
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
async function lockOf(directory: DataDirectory): Promise<ProcessLock | null> {
  const end = performance.now() + LOCK_WAIT_MS;
  for (;;) {
    const lock = takeLock(join(directory.executor, "lock"));
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

type Options = { listen: { hostname: string; port: number } | null; isSingle: boolean; install: string | null };

function parseOptions(rest: string[]): Options {
  const options: Options = { listen: null, isSingle: false, install: null };
  const words = rest.flatMap((word) => /^(--[a-z-]+)=(.*)$/s.exec(word)?.slice(1) ?? [word]);
  for (let i = 0; i < words.length; i++) {
    if (words[i] === "--single-sandbox") options.isSingle = true;
    else if (words[i] === "--listen") options.listen = parseListen(words[++i] ?? "");
    else if (words[i] === "--install" && words[i + 1] !== undefined) options.install = words[++i] ?? null;
    else throw invalid(rest);
  }
  if (options.isSingle && options.listen === null) throw invalid(rest);
  return options;
}

function parseListen(address: string): { hostname: string; port: number } {
  const [, hostname, port] = /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(address) ?? [];
  if (hostname === undefined || Number(port) > MAX_PORT) throw invalid(["--listen", address]);
  return { hostname, port: Number(port) };
}

function invalid(words: string[]): ConfigError {
  const allowed = "--listen HOST:PORT, with it --single-sandbox, or --install DIR";
  return new ConfigError(`sandbox executor ${words.join(" ")} is not valid: allowed is ${allowed}`);
}

/** The token, which is in the environment of no process that this one starts. */
function takeToken(): string {
  const token = process.env["EXECUTOR_TOKEN"] ?? "";
  delete process.env["EXECUTOR_TOKEN"];
  if (token.length >= MIN_TOKEN_LENGTH) return token;
  throw new ConfigError(`EXECUTOR_TOKEN is too short: with --listen it needs at least ${MIN_TOKEN_LENGTH} characters`);
}

class NoJail extends Error {}

/** How sandboxes are isolated. Throws ConfigError, and NoJail when they can't be as they must on this machine. */
async function jailOf(config: Config, directory: DataDirectory, isSingle: boolean): Promise<Jail> {
  if (config.disableBwrap && !isSingle)
    throw new ConfigError("DISABLE_BWRAP=true is not possible without --single-sandbox: allowed is false");
  try {
    if (!isSingle) return await BwrapJail.open({ dataDir: directory.path, uidBase: config.sandboxUidBase });
    const runtimeDir = dirname(process.execPath);
    return DirectJail.open({
      workspaceDir: WORKSPACE,
      dataDir: directory.path,
      runtimeDir,
      allowUnisolated: config.allowUnisolated,
    });
  } catch (error) {
    throw new NoJail(error instanceof Error ? error.message : String(error));
  }
}
