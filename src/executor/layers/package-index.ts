import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { AppError } from "../../errors.ts";
import { isSpecialAddress } from "../egress/address.ts";
import { parseHost } from "../egress/host.ts";
import type { NetworkRules } from "../protocol.ts";

const PYPI = "https://pypi.org/simple";
/** Where an index keeps its files when that is not its own host. */
const FILE_HOSTS: Record<string, readonly string[]> = { "pypi.org": ["files.pythonhosted.org"] };

/** The index that the host's pip uses: PIP_INDEX_URL or pip's configuration, else PyPI. */
export function hostIndexUrl(env: Record<string, string | undefined>): string {
  const fromEnv = env["PIP_INDEX_URL"];
  if (fromEnv !== undefined && URL.canParse(fromEnv)) return fromEnv;
  const home = env["HOME"] ?? homedir();
  for (const path of [join(home, ".config/pip/pip.conf"), join(home, ".pip/pip.conf"), "/etc/pip.conf"]) {
    const found = existsSync(path) ? /^\s*index-url\s*=\s*(\S+)\s*$/m.exec(readFileSync(path, "utf8"))?.[1] : undefined;
    if (found !== undefined && URL.canParse(found)) return found;
  }
  return PYPI;
}

/**
 * What an installation from the index may connect to: its hosts at its port, and nothing else. `isTrusted`: the operator
 * named it, so it may be at any address; another one is held to public addresses (`dependency_failed`).
 */
export function indexRules(indexUrl: string, isTrusted: boolean): NetworkRules {
  const url = URL.parse(indexUrl);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new AppError("dependency_failed", "the package index must be an http or https URL");
  const host = parseHost(url.hostname);
  if (host === null || (host.kind === "ip" && !isTrusted && isSpecialAddress(host.address)))
    throw new AppError("dependency_failed", "the package index is at an address that may not be reached");
  const port = url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
  const names = [url.hostname, ...(FILE_HOSTS[url.hostname] ?? [])];
  return { allow: names.map((name) => `${name}:${port}`), ...(isTrusted ? { trusted: names } : {}) };
}
