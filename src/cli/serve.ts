import { startApp } from "../app.ts";
import { loadConfig, settingsHelp, takeFlags } from "../config.ts";
import { createLog } from "../log.ts";
import { UsageError } from "./usage-error.ts";

const HELP = `sandbox serve: runs the control plane until SIGTERM or SIGINT

Usage: sandbox serve [SETTINGS]

`;

/** `sandbox serve`. Throws UsageError, and ConfigError for what the operator must change. */
export async function serveCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  if (rest.includes("--help")) {
    process.stdout.write(HELP + settingsHelp());
    return 0;
  }
  if (rest.length > 0) throw new UsageError(`sandbox serve has no argument ${rest[0]}; see sandbox serve --help`);
  const config = loadConfig(process.env, flags);
  const log = createLog({ level: config.logLevel, format: config.logFormat });
  const told = Promise.withResolvers<NodeJS.Signals>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, told.resolve);
  const app = await Promise.race([startApp(config, log), told.promise]);
  // Nothing of a service that is still waiting for its database or objects needs an end.
  if (typeof app === "string") return 0;
  const { drainGraceMs: graceMs, drainWaitMs: waitMs } = config;
  await app.stop((await told.promise) === "SIGTERM" ? { graceMs, waitMs } : undefined);
  return 0;
}
