#!/usr/bin/env bun
import { IS_COMPILED, VERSION } from "./version.ts";

type Run = (argv: string[]) => Promise<number>;
type Command = { about: string; load: () => Promise<Run> };

/** Each is loaded only when it is asked for. */
const COMMANDS: Record<string, Command> = {
  serve: { about: "run the control plane", load: async () => (await import("./cli/serve.ts")).serveCommand },
  run: {
    about: "run a file in a sandbox and follow its output",
    load: async () => (await import("./cli/run.ts")).runCommand,
  },
  doctor: {
    about: "check what this machine offers, and prove the isolation",
    load: async () => (await import("./cli/doctor.ts")).doctorCommand,
  },
  keys: { about: "make, list and revoke API keys", load: async () => (await import("./cli/keys.ts")).keysCommand },
  images: {
    about: "import, list and remove root file systems",
    load: async () => (await import("./cli/images.ts")).imagesCommand,
  },
  backup: {
    about: "write all that the service keeps into one file",
    load: async () => (await import("./cli/backup.ts")).backupCommand,
  },
  restore: {
    about: "read a backup into a new data directory",
    load: async () => (await import("./cli/restore.ts")).restoreCommand,
  },
  openapi: {
    about: "print the API's OpenAPI document",
    load: async () => (await import("./cli/openapi.ts")).openapiCommand,
  },
  executor: {
    about: "the process beside the code, started by serve",
    load: async () => (await import("./cli/executor.ts")).executorCommand,
  },
};

/** Those that make sandboxes, for which init must be there. */
const WITH_SANDBOXES = new Set(["serve", "run", "doctor", "executor"]);

/** Those that keep a request to an executor for each execution that runs and each reader of one. */
const MANY_REQUESTS = new Set(["serve"]);
const REQUESTS = "BUN_CONFIG_MAX_HTTP_REQUESTS";

/**
 * Bun lets all requests but 256 wait, and then everything would wait behind idle readers. It takes another number from the
 * environment of its start alone, so this process begins anew with that, unless it has it already (as deploy/ sets it).
 */
function allowManyRequests(): void {
  if (process.env[REQUESTS] !== undefined) return;
  const argv = [process.execPath, ...(IS_COMPILED ? [] : [Bun.main]), ...process.argv.slice(2)];
  process.execve?.(process.execPath, argv, { ...process.env, [REQUESTS]: "65535" });
}

function help(): string {
  const lines = Object.entries(COMMANDS).map(([name, { about }]) => `  ${name.padEnd(10)}${about}`);
  return `sandbox ${VERSION}: runs untrusted code in sandboxes and streams its output\n\nUsage: sandbox COMMAND [ARGUMENTS]\n\n${lines.join("\n")}\n\nsandbox COMMAND --help tells more.\n`;
}

/** Names of errors whose message is for the person at the terminal: what is wrong and what to do. */
const EXPECTED: Record<string, number> = { ConfigError: 2, UsageError: 2, AppError: 1 };

async function main(argv: string[]): Promise<number> {
  const [name = "--help", ...rest] = argv.map((word) => (word === "-h" ? "--help" : word));
  const isVersion = (word: string | undefined): boolean => ["--version", "-V", "version"].includes(word ?? "");
  if (isVersion(name) || (Object.hasOwn(COMMANDS, name) && rest.length === 1 && isVersion(rest[0]))) {
    process.stdout.write(`sandbox ${VERSION}\n`);
    return 0;
  }
  if (name === "help" && rest.length > 0) return main([...rest, "--help"]);
  if (name === "--help" || name === "help") {
    (argv.length === 0 ? process.stderr : process.stdout).write(help());
    return argv.length === 0 ? 2 : 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    process.stderr.write(`sandbox: there is no command ${name}; see sandbox --help\n`);
    return 2;
  }
  try {
    if (MANY_REQUESTS.has(name)) allowManyRequests();
    if (!IS_COMPILED && WITH_SANDBOXES.has(name)) await (await import("./cli/source-init.ts")).compileInitFromSource();
    const run = await command.load();
    return await run(rest);
  } catch (error) {
    return explain(error);
  }
}

/** Says on one line what went wrong, and with LOG_LEVEL=debug where; the exit code. */
function explain(error: unknown): number {
  const { name, message, stack = "" } = error instanceof Error ? error : new Error(String(error));
  const code = EXPECTED[name];
  const isDebug = process.env["LOG_LEVEL"] === "debug";
  const hint = code !== undefined || isDebug ? "" : " (a fault of this program: LOG_LEVEL=debug shows where)";
  process.stderr.write(`sandbox: ${message.replaceAll("\n", " ")}${hint}\n${isDebug ? `${stack}\n` : ""}`);
  return code ?? 1;
}

/** Resolves when what was written is out, which for a full pipe is later, or its reader has gone. */
function ended(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.once("error", () => resolve());
    stream.end(() => resolve());
  });
}

// A reader that leaves early, as `head` does, is no fault: writes learn of it by their callbacks.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
const code = await main(process.argv.slice(2));
await Promise.all([ended(process.stdout), ended(process.stderr)]);
process.exit(code);
