import { ConfigError, type Config } from "../config.ts";

/** What systems say of a name without an address, and of an address that is another machine's. */
const NOT_HERE = new Set(["EINVAL", "EADDRNOTAVAIL", "ENOTFOUND", "EAI_AGAIN"]);

/** Binds to where the configuration says. Throws ConfigError for an address that can't be had. */
export function listen(
  bind: (host: string, port: number) => { url: string; port: number },
  config: Config,
): { url: string; port: number } {
  try {
    return bind(config.host, config.port);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EADDRINUSE")
      throw new ConfigError(`PORT=${config.port} on ${config.host} is taken: end what uses it or choose another port`);
    if (code !== undefined && NOT_HERE.has(code))
      throw new ConfigError(`HOST=${config.host} is no address of this machine, nor a name of one (${code})`);
    const message = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`HOST=${config.host} PORT=${config.port} can't be listened on: ${message}`);
  }
}
