#!/usr/bin/env bun
import { VERSION } from "./version.ts";

type Command = { about: string; run: () => Promise<(argv: string[]) => Promise<number>> };

/** Each is loaded only when it is asked for. */
const COMMANDS: Record<string, Command> = {
  serve: { about: "run the control plane", run: async () => (await import("./cli/serve.ts")).serveCommand },
  run: {
    about: "run a file in a sandbox and follow its output",
    run: async () => (await import("./cli/run.ts")).runCommand,
  },
  doctor: {
    about: "check what this machine offers, and prove the isolation",
    run: async () => (await import("./cli/doctor.ts")).doctorCommand,
  },
  keys: { about: "make, list and revoke API keys", run: async () => (await import("./cli/keys.ts")).keysCommand },
  images: {
    about: "import, list and remove root file systems",
    run: async () => (await import("./cli/images.ts")).imagesCommand,
  },
  executor: {
    about: "the process beside the code, started by serve",
    run: async () => (await import("./cli/executor.ts")).executorCommand,
  },
};

function help(): string {
  const lines = Object.entries(COMMANDS).map(([name, { about }]) => `  ${name.padEnd(10)}${about}`);
  return `sandbox ${VERSION}: runs untrusted code in sandboxes and streams its output\n\nUsage: sandbox COMMAND [ARGUMENTS]\n\n${lines.join("\n")}\n\nsandbox COMMAND --help tells more.\n`;
}

/** Names of errors whose message is for the person at the terminal: what is wrong and what to do. */
const EXPECTED: Record<string, number> = { ConfigError: 2, UsageError: 2, AppError: 1 };

async function main(argv: string[]): Promise<number> {
  const [name = "--help", ...rest] = argv;
  if (name === "--version" || name === "-V") {
    process.stdout.write(`sandbox ${VERSION}\n`);
    return 0;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(help());
    return argv.length === 0 ? 2 : 0;
  }
  const command = COMMANDS[name];
  if (command === undefined) {
    process.stderr.write(`sandbox: there is no command ${name}; see sandbox --help\n`);
    return 2;
  }
  try {
    return await (
      await command.run()
    )(rest);
  } catch (error) {
    const code = error instanceof Error ? EXPECTED[error.name] : undefined;
    if (code === undefined) throw error;
    process.stderr.write(`sandbox: ${(error as Error).message.replaceAll("\n", " ")}\n`);
    return code;
  }
}

process.exit(await main(process.argv.slice(2)));
