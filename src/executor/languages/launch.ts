import { withMember } from "../../json-text.ts";
import type { ExecutionRequest } from "../protocol.ts";

/**
 * How each language is started inside a sandbox: what to exec, with which environment, and what to write to fd 3.
 * Pure: nothing here touches a disk. Every started program has stdin, stdout and stderr on fds 0–2, the job on fd 3 and
 * the result channel on fd 4 (see the executor's result-channel.ts).
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
  /** Directory with the files of assets.ts, bun and bin/bun. */
  runtime: string;
  workspace: string;
  python: string;
  /** bash where there is one, else sh. */
  shell: string;
  /** Where the directories of Python dependency layers are. */
  layersDir: string;
  /** Those of this program; the first wins. */
  layers: readonly string[];
};

export const JAIL_PATHS: SandboxPaths = {
  runtime: "/.sandbox",
  workspace: "/workspace",
  python: "/usr/bin/python3",
  shell: "/bin/bash",
  layersDir: "/.layers",
  layers: [],
};

/** What the program's own frames are called in shell messages; the runners know their languages' names. */
const SHELL_NAME = "main.sh";

/** Longest text that goes onto a command line or into one variable: the kernel's bound is 128 KiB an item. */
const ARGUMENT_LIMIT_BYTES = 100 * 1024;

const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Python's variables that a warm interpreter can follow; any other asks for an interpreter of the program's own. */
const WARM_PYTHON_VARIABLES = new Set([
  "PYTHONPATH",
  "PYTHONUNBUFFERED",
  "PYTHONDONTWRITEBYTECODE",
  "PYTHONBREAKPOINT",
]);

/** Nothing in a workspace steers the interpreter itself, and nothing is fetched on an import. */
const BUN_FLAGS = ["--no-install", "--no-env-file", "--config=/dev/null"];

const BUN_ENVIRONMENT = {
  BUN_BE_BUN: "1",
  BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0",
  BUN_DISABLE_TRANSPILED_SOURCE_CODE_PREVIEW: "1",
  DO_NOT_TRACK: "1",
};

const encoder = new TextEncoder();

type Request = Pick<ExecutionRequest, "language" | "code" | "event" | "timeoutMs">;

/**
 * How to run `request` with `env`, the session's variables overlaid with the execution's. A handler gets the event as it
 * is, null included; `executionId` is what its context shows.
 */
export function launchPlan(
  request: Request,
  env: Record<string, string>,
  paths: SandboxPaths = JAIL_PATHS,
  executionId: string | null = null,
): LaunchPlan {
  if (request.language === "shell") return shellPlan(request, { ...baseEnvironment(paths), ...env }, paths);
  const bytes = job(request, env, paths, executionId);
  if (request.language === "python") return pythonPlan(env, paths, bytes);
  return { mode: "spare", ...spareCommand(paths), job: bytes };
}

/**
 * The warm Python. Its fd 3 is the SEQPACKET socket over which init asks for forks; it has no job and no result channel.
 * `preload` names modules to import while idle, after the common standard library.
 */
export function zygoteCommand(preload: readonly string[] = [], paths: SandboxPaths = JAIL_PATHS): Command {
  return pythonCommand(paths, ["--zygote", ...preload]);
}

/** A JavaScript interpreter that starts, waits for one job (JavaScript or TypeScript) on fd 3, runs it and exits. */
export function spareCommand(paths: SandboxPaths = JAIL_PATHS): Command {
  return {
    argv: [`${paths.runtime}/bun`, ...BUN_FLAGS, `${paths.runtime}/runner.js`],
    env: { ...baseEnvironment(paths), ...BUN_ENVIRONMENT },
    cwd: paths.workspace,
  };
}

function pythonPlan(env: Record<string, string>, paths: SandboxPaths, jobBytes: Uint8Array): LaunchPlan {
  const command = pythonCommand(paths, ["--cold"]);
  const own = Object.entries(env).filter(([name]) => name.startsWith("PYTHON") && !WARM_PYTHON_VARIABLES.has(name));
  const mode = own.length === 0 ? "zygote" : "exec";
  return { mode, ...command, env: { ...command.env, ...Object.fromEntries(own) }, job: jobBytes };
}

function pythonCommand(paths: SandboxPaths, args: readonly string[]): Command {
  return {
    argv: [paths.python, "-s", `${paths.runtime}/zygote.py`, ...args],
    env: baseEnvironment(paths),
    cwd: paths.workspace,
  };
}

/**
 * Code that is too long for the command line comes through fd 3. So does an event that is too long for the environment:
 * EVENT_JSON is then a variable of the shell alone, since no program could be started with it.
 */
function shellPlan(request: Request, env: Record<string, string>, paths: SandboxPaths): LaunchPlan {
  const event = request.event ?? "null";
  const run = (script: string, variables: Record<string, string>, input: string | null): LaunchPlan => ({
    mode: "exec",
    argv: [paths.shell, "-c", script, SHELL_NAME],
    env: variables,
    cwd: paths.workspace,
    job: input === null ? null : encoder.encode(input),
  });
  if (Buffer.byteLength(event) > ARGUMENT_LIMIT_BYTES) {
    return run('IFS= read -r EVENT_JSON <&3; eval "$(cat <&3)"', env, `${event}\n${request.code}`);
  }
  const variables = { ...env, EVENT_JSON: event };
  if (Buffer.byteLength(request.code) > ARGUMENT_LIMIT_BYTES) return run('eval "$(cat <&3)"', variables, request.code);
  return run(request.code, variables, null);
}

function baseEnvironment(paths: SandboxPaths): Record<string, string> {
  return {
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
    ...pathVariables(paths),
  };
}

/** The variables that follow the layers, which change while warm interpreters live. */
function pathVariables({ layers, runtime }: SandboxPaths): Record<string, string> {
  const bins = [...layers.map((layer) => `${layer}/bin`), SYSTEM_PATH, `${runtime}/bin`];
  return { PATH: bins.join(":"), ...(layers.length > 0 ? { PYTHONPATH: layers.join(":") } : {}) };
}

/** `env` holds what a warm interpreter may lack. */
function job(
  request: Request,
  env: Record<string, string>,
  paths: SandboxPaths,
  executionId: string | null,
): Uint8Array {
  const { language, code, event, timeoutMs } = request;
  const variables = Object.entries(paths.layers.length > 0 ? { ...pathVariables(paths), ...env } : env);
  return encoder.encode(
    withMember(
      {
        language,
        code,
        env: Object.fromEntries(variables.map(([name, value]) => [name, value.toWellFormed()])),
        cwd: paths.workspace,
        timeout_ms: timeoutMs,
        execution_id: executionId,
      },
      "event",
      event,
    ),
  );
}
