import { mkdtemp, rm } from "node:fs/promises";
import { startApp } from "../app.ts";
import { loadConfig } from "../config.ts";
import { createLog } from "../log.ts";

/** A service of this process's own, on loopback and a free port. */
export type EmbeddedService = { url: string; dataDir: string; stop(): Promise<void> };

/**
 * Starts one that ends with its executor and leaves nothing behind, on DATA_DIR if that is set, else on a directory for
 * this run alone. Errors are logged to standard error. Throws ConfigError.
 */
export async function startEmbedded(): Promise<EmbeddedService> {
  const given = process.env["DATA_DIR"];
  const dataDir = given ?? (await mkdtemp("/tmp/sandbox-run-"));
  const env = {
    ...process.env,
    DATA_DIR: dataDir,
    HOST: "127.0.0.1",
    PORT: "0",
    EXECUTOR_LINGER: "false",
    API_KEYS: "",
  };
  const log = createLog({ level: "error", format: "text", write: (line) => process.stderr.write(line) });
  const app = await startApp(loadConfig(env), log);
  const stop = async (): Promise<void> => {
    await app.stop();
    if (given === undefined) await rm(dataDir, { recursive: true, force: true });
  };
  return { url: app.url, dataDir, stop };
}
