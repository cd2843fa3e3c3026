import type { ExecutionRequest, Language } from "../protocol.ts";

/**
 * How each language is started inside a sandbox: what to exec, with which environment, and what to write to fd 3.
 * Pure: nothing here touches a disk. Every started program has stdin, stdout and stderr on fds 0–2, the job on fd 3 and
 * the result channel on fd 4 (see `result.ts` for what it carries).
 */
export type LaunchPlan = {
  /**
   * `zygote`: fork from the warm Python; when there is none, exec `argv`. `spare`: give `job` to a started spare
   * (`spareCommand`); when there is none, exec `argv`. `exec`: exec `argv`.
   */
  mode: "zygote" | "spare" | "exec";
  /** Exec'd whenever no warm process takes the job; reads the same job from fd 3. */
  argv: string[];
  /** The environment to exec `argv` with. For `zygote` and `spare` the program's own environment travels in the job. */
  env: Record<string, string>;
  cwd: string;
  /** Bytes to write to fd 3, which is closed after them; null: close it at once. */
  job: Uint8Array | null;
};

/** A program to start ahead of any execution; it has the same fds as an execution unless said otherwise. */
export type Command = { argv: string[]; env: Record<string, string>; cwd: string };

/** Where things are inside the sandbox. */
export type SandboxPaths = {
  /** Directory with zygote.py, runner.js, bun and bin/bun. */
  runtime: string;
  workspace: string;
  python: string;
  /** bash where there is one, else sh. */
  shell: string;
  /** Directories of Python dependency layers; the first wins. */
  layers: readonly string[];
};

export const JAIL_PATHS: SandboxPaths = {
  runtime: "/.sandbox",
  workspace: "/workspace",
  python: "/usr/bin/python3",
  shell: "/bin/bash",
  layers: [],
};

/** File name that the program's own frames carry in tracebacks. */
const FILE_NAMES: Record<Language, string> = {
  python: "main.py",
  javascript: "main.js",
  typescript: "main.ts",
  shell: "main.sh",
};

/** Longest text that goes onto a command line or into one variable: the kernel's bound is 128 KiB an item. */
const ARGUMENT_LIMIT_BYTES = 100 * 1024;

const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const encoder = new TextEncoder();

type Request = Pick<ExecutionRequest, "language" | "code" | "event">;

/**
 * How to run `request` with `env`, the session's variables overlaid with the execution's. `has_event` in the job is
 * false when the event is null; a handler then gets null.
 */
export function launchPlan(
  request: Request,
  env: Record<string, string>,
  paths: SandboxPaths = JAIL_PATHS,
): LaunchPlan {
  const full = { ...baseEnvironment(paths), ...env };
  switch (request.language) {
    case "python":
      return {
        mode: "zygote",
        ...pythonCommand(paths, ["--cold"]),
        job: job(request, full),
      };
    case "javascript":
    case "typescript":
      return { mode: "spare", ...spareCommand(paths), job: job(request, full) };
    case "shell":
      return shellPlan(request, full, paths);
  }
}

/**
 * The warm Python. Its fd 3 is the SEQPACKET socket over which init asks for forks; it has no job and no result channel.
 * `preload` names modules to import while idle, after the common standard library.
 */
export function zygoteCommand(
  preload: readonly string[] = [],
  paths: SandboxPaths = JAIL_PATHS,
): Command {
  return pythonCommand(paths, ["--zygote", ...preload]);
}

/** A JavaScript interpreter that starts, waits for one job (JavaScript or TypeScript) on fd 3, runs it and exits. */
export function spareCommand(paths: SandboxPaths = JAIL_PATHS): Command {
  return {
    argv: [
      `${paths.runtime}/bun`,
      "--no-install",
      "--no-env-file",
      "--config=/dev/null",
      `${paths.runtime}/runner.js`,
    ],
    env: {
      ...baseEnvironment(paths),
      BUN_BE_BUN: "1",
      BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0",
      DO_NOT_TRACK: "1",
    },
    cwd: paths.workspace,
  };
}

function pythonCommand(paths: SandboxPaths, args: readonly string[]): Command {
  return {
    argv: [paths.python, "-I", "-S", `${paths.runtime}/zygote.py`, ...args],
    env: baseEnvironment(paths),
    cwd: paths.workspace,
  };
}

function shellPlan(request: Request, env: Record<string, string>, paths: SandboxPaths): LaunchPlan {
  const event = JSON.stringify(request.event ?? null);
  const code = encoder.encode(request.code);
  const plan = { mode: "exec" as const, cwd: paths.workspace };
  const full = { ...env, EVENT_JSON: event };
  if (code.length <= ARGUMENT_LIMIT_BYTES) {
    return {
      ...plan,
      argv: [paths.shell, "-c", request.code, FILE_NAMES.shell],
      env: full,
      job: null,
    };
  }
  return {
    ...plan,
    argv: [paths.shell, "-c", 'eval "$(cat <&3)"', FILE_NAMES.shell],
    env: full,
    job: code,
  };
}

function baseEnvironment(paths: SandboxPaths): Record<string, string> {
  const bins = [
    ...paths.layers.map((layer) => `${layer}/bin`),
    SYSTEM_PATH,
    `${paths.runtime}/bin`,
  ];
  return {
    PATH: bins.join(":"),
    HOME: paths.workspace,
    PWD: paths.workspace,
    USER: "sandbox",
    LOGNAME: "sandbox",
    SHELL: paths.shell,
    LANG: "C.UTF-8",
    TMPDIR: "/tmp",
    XDG_CACHE_HOME: "/tmp/.cache",
    PYTHONUNBUFFERED: "1",
    PYTHONDONTWRITEBYTECODE: "1",
    ...(paths.layers.length > 0 ? { PYTHONPATH: paths.layers.join(":") } : {}),
  };
}

function job(request: Request, env: Record<string, string>): Uint8Array {
  return encoder.encode(
    JSON.stringify({
      code: request.code,
      language: request.language,
      event: request.event ?? null,
      has_event: request.event !== null && request.event !== undefined,
      env,
      argv0: FILE_NAMES[request.language],
    }),
  );
}
