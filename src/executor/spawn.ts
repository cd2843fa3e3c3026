import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config } from "../config.ts";
import { AppError } from "../errors.ts";
import { HttpExecutor } from "./client.ts";

/** What of the service's configuration an executor needs. */
export type ExecutorConfig = Pick<
  Config,
  | "dataDir"
  | "outputLimitBytes"
  | "journalLimitBytes"
  | "journalsLimitBytes"
  | "maxWaitingPerSession"
  | "sandboxUidBase"
  | "packageIndexUrl"
  | "layersLimitBytes"
  | "disableBwrap"
  | "allowUnisolated"
  | "logLevel"
  | "executorExternal"
>;

/** How long an executor may take to start: it may have to wait for one that is ending its sandboxes. */
const START_MS = 30_000;
/** What of the environment an executor gets: nothing that is secret, nothing that changes its settings. */
const PASSED_ON = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "PIP_INDEX_URL"];
const READY = "ready\n";
/** What an executor exits with when sandboxes can't be isolated as they must be on this machine. */
export const NO_JAIL_EXIT = 3;

/**
 * Connects to the executor of the data directory, after starting one when none answers. It is a process of its own session,
 * so it outlives this one. With EXECUTOR_EXTERNAL none is started. Throws `executor_unavailable` with what a failed one
 * said; the error is lasting where no jail can be made.
 */
export async function ensureExecutor(config: ExecutorConfig): Promise<HttpExecutor> {
  const directory = join(config.dataDir, "executor");
  const executor = new HttpExecutor({ unix: join(directory, "socket") });
  if (await answers(executor)) return executor;
  if (config.executorExternal) {
    const message = `no executor serves ${directory}: EXECUTOR_EXTERNAL=true leaves it to be started by something else`;
    throw new AppError("executor_unavailable", message, { retryAfterS: 1 });
  }
  const failure = await start(config, directory);
  if (failure !== null && !(await answers(executor))) {
    const { said, isLasting } = failure;
    throw new AppError("executor_unavailable", `the executor did not start: ${said}`, { retryAfterS: 1, isLasting });
  }
  return executor;
}

async function answers(executor: HttpExecutor): Promise<boolean> {
  try {
    await executor.health(AbortSignal.timeout(5000));
    return true;
  } catch {
    return false;
  }
}

type Failure = { said: string; isLasting: boolean };

/** Starts an executor; null when it is ready, else why it is not. */
async function start(config: ExecutorConfig, directory: string): Promise<Failure | null> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const errors = join(directory, "stderr");
  const stderr = openSync(errors, "w", 0o600);
  const [program = process.execPath, ...args] = commandOf(config);
  const child = spawn(program, args, {
    detached: true,
    cwd: "/",
    env: environmentOf(config),
    stdio: ["ignore", "pipe", stderr],
  });
  closeSync(stderr);
  try {
    if (await saysReady(child)) return null;
    const said = (await Bun.file(errors).text()).trim().split("\n").at(-1) ?? "";
    return { said: said === "" ? `see ${join(directory, "log")}` : said, isLasting: child.exitCode === NO_JAIL_EXIT };
  } finally {
    child.stdout?.destroy();
    child.unref();
  }
}

/** The index is not on the command line because it may hold a password. */
function environmentOf(config: ExecutorConfig): Record<string, string> {
  const passed = Object.fromEntries(PASSED_ON.flatMap((name) => pair(name, process.env[name])));
  return config.packageIndexUrl === null ? passed : { ...passed, PYTHON_PACKAGE_INDEX_URL: config.packageIndexUrl };
}

function saysReady(child: ReturnType<typeof spawn>): Promise<boolean> {
  return new Promise((done) => {
    const timer = setTimeout(() => done(false), START_MS);
    const settle = (isReady: boolean): void => {
      clearTimeout(timer);
      done(isReady);
    };
    child.once("error", () => settle(false));
    child.once("exit", () => settle(false));
    child.stdout?.on("data", (chunk: Buffer) => {
      if (chunk.toString().includes(READY)) settle(true);
    });
  });
}

/** Says to the process that started this executor, if one did, that it takes requests. */
export function sayReady(): void {
  process.stdout.write(READY);
}

function commandOf(config: ExecutorConfig): string[] {
  const flags: Record<string, unknown> = {
    "data-dir": config.dataDir,
    "output-limit-bytes": config.outputLimitBytes,
    "journal-limit-bytes": config.journalLimitBytes,
    "journals-limit-mb": Math.floor(config.journalsLimitBytes / 1024 ** 2),
    "max-waiting-per-session": config.maxWaitingPerSession,
    "sandbox-uid-base": config.sandboxUidBase,
    "layers-limit-mb": Math.floor(config.layersLimitBytes / 1024 ** 2),
    "disable-bwrap": config.disableBwrap,
    "allow-unisolated": config.allowUnisolated,
    "log-level": config.logLevel,
  };
  return [
    process.execPath,
    ...(isCompiled() ? [] : [resolve(import.meta.dir, "../main.ts")]),
    "executor",
    ...Object.entries(flags).map(([name, value]) => `--${name}=${String(value)}`),
  ];
}

function isCompiled(): boolean {
  return Bun.main.startsWith("/$bunfs/");
}

function pair(name: string, value: string | undefined): [string, string][] {
  return value === undefined ? [] : [[name, value]];
}
