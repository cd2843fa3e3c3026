import { startApp } from "../app.ts";
import { loadConfig, takeFlags } from "../config.ts";
import { createLog } from "../log.ts";

/** `sandbox serve`: runs the control plane until SIGTERM or SIGINT. Throws ConfigError for what the operator must change. */
export async function serveCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  if (rest.length > 0) {
    process.stderr.write(`sandbox serve: unknown argument ${rest[0]}; see sandbox serve --help\n`);
    return 2;
  }
  const config = loadConfig(process.env, flags);
  const log = createLog({ level: config.logLevel, format: config.logFormat });
  const app = await startApp(config, log);
  const told = Promise.withResolvers<void>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => told.resolve());
  await told.promise;
  await app.stop();
  return 0;
}
