import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";

/** The compiled executable that end-to-end tests run; built by `bun run build`. */
export const EXECUTABLE = join(import.meta.dir, "../../dist/sandbox");

export type ServerOptions = {
  env?: Record<string, string>;
  dataDir?: string;
  keepDataDir?: boolean;
  /** A command that ends in executing the one that follows it. */
  wrapper?: string[];
};

/** A real `sandbox serve` on a free port of loopback and a data directory of its own. */
export type Server = {
  url: string;
  dataDir: string;
  process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  /** Log lines so far. */
  log: string[];
  /** All that it wrote to stderr, once it has ended. */
  stderr: Promise<string>;
  /** Ends it as an operator would, and its executor; removes the data directory unless it was given or is kept. */
  stop(): Promise<void>;
  /** Pid of the executor beside it. */
  executorPid(): Promise<number>;
};

/** A directory that sandbox users can reach (/tmp is), removed by `Server.stop` or the caller. */
export function newDataDir(): Promise<string> {
  return mkdtemp("/tmp/sandbox-test-");
}

/** Environment of the service in tests: nothing of the host's configuration leaks in. */
export function serviceEnv(dataDir: string, env: Record<string, string> = {}): Record<string, string> {
  return {
    PATH: process.env.PATH ?? "/usr/bin:/bin",
    HOME: process.env.HOME ?? "/root",
    DATA_DIR: dataDir,
    PORT: "0",
    EXECUTOR_LINGER: "false",
    ...env,
  };
}

/** Starts the service and resolves when it says that it listens. Throws with its output when it ends instead. */
export async function startServer(options: ServerOptions = {}): Promise<Server> {
  const dataDir = options.dataDir ?? (await newDataDir());
  const child = Bun.spawn([...(options.wrapper ?? []), EXECUTABLE, "serve"], {
    env: serviceEnv(dataDir, options.env),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const log: string[] = [];
  const stderr = new Response(child.stderr).text();
  const url = await listeningUrl(child, log, stderr);
  return {
    url,
    dataDir,
    process: child,
    log,
    stderr,
    executorPid: async () => Number(await Bun.file(join(dataDir, "executor/pid")).text()),
    stop: async () => {
      child.kill("SIGTERM");
      await child.exited;
      await endExecutor(dataDir);
      if (options.dataDir === undefined && options.keepDataDir !== true)
        await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Ends the executor that a killed or lingering service left in the data directory, if there is one. */
export async function endExecutor(dataDir: string): Promise<void> {
  const socket = join(dataDir, "executor/socket");
  await fetch("http://executor/shutdown", { method: "POST", unix: socket }).catch(() => {});
}

async function listeningUrl(child: Server["process"], log: string[], stderr: Promise<string>): Promise<string> {
  const found = Promise.withResolvers<string>();
  void (async () => {
    let rest = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        log.push(line);
        const url = /server\.listening\b.*\burl"?[:=]"?(http:[^" ]+)/.exec(line)?.[1];
        if (url !== undefined) found.resolve(url);
      }
    }
    found.reject(new Error(`serve ended: ${await stderr}\n${log.join("\n")}`));
  })();
  return found.promise;
}
