import { isIP } from "node:net";
import { isLoopback } from "../config.ts";
import { AppError } from "../errors.ts";

/** Names by which a server that asks for no key may be called, besides those of loopback. */
export type KnownNames = {
  /** The name it listens on. */
  host: string;
  /** Names, `*.domain` for all below one, `*` for any. */
  allowedHosts: readonly string[];
  corsOrigins: readonly string[];
};

/**
 * Refuses a request that a foreign page may have caused: a `Host` that is not the server's own (DNS rebinding), or an
 * `Origin` other than the server's or a configured one. Throws `forbidden_origin`.
 */
export function checkOrigin(headers: Headers, names: KnownNames): void {
  const host = headers.get("host") ?? "";
  if (!isOwnHost(hostNameOf(host), names))
    throw new AppError("forbidden_origin", "this server is not reachable under that Host; see ALLOWED_HOSTS");
  const origin = headers.get("origin");
  if (origin === null || origin.replace(/^https?:\/\//i, "").toLowerCase() === host.toLowerCase()) return;
  if (!isConfiguredOrigin(origin, names.corsOrigins))
    throw new AppError("forbidden_origin", "requests from that Origin are refused; see CORS_ORIGINS");
}

/** Whether pages of `origin` may call the API. */
export function isConfiguredOrigin(origin: string, corsOrigins: readonly string[]): boolean {
  return corsOrigins.includes("*") || corsOrigins.includes(origin.toLowerCase());
}

function isOwnHost(name: string, names: KnownNames): boolean {
  if (name === names.host || isLoopback(name) || name.endsWith(".localhost")) return true;
  return names.allowedHosts.some(
    (allowed) => allowed === "*" || allowed === name || (allowed.startsWith("*.") && name.endsWith(allowed.slice(1))),
  );
}

/** The name in a `Host` header: no port, no brackets, lower case. Empty when it is not one. */
function hostNameOf(host: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d*)?$/.exec(host)?.[1];
  if (bracketed !== undefined) return isIP(bracketed) === 6 ? bracketed.toLowerCase() : "";
  return /^([^:/?#@\s]+)(?::\d*)?$/.exec(host)?.[1]?.toLowerCase() ?? "";
}
