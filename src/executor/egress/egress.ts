import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { EgressDecision, NetworkRules } from "../protocol.ts";
import { AllowList } from "./allow-list.ts";
import { EgressProxy } from "./proxy.ts";

/** Where the directory of the proxy's socket is inside the sandbox. */
export const EGRESS_DIR = "/.egress";
const SOCKET = "s";
export const PROXY_PORT = 3128;

/** Where the programs of a sandbox find their proxy. */
export interface WayOut {
  /** Port on the sandbox's loopback. */
  readonly port: number;
  /** Directory on the host with the proxy's socket, to which a relay in the sandbox must carry connections; null: no need. */
  readonly dir: string | null;
  /** Ends every connection. Idempotent. */
  close(): Promise<void>;
}

/** The way out of one sandbox: a proxy on a socket in a directory of its own, which is bound into the jail. */
export class Egress implements WayOut {
  readonly port = PROXY_PORT;
  readonly dir: string;
  readonly #proxy: EgressProxy;

  /** Throws `bad_request` for rules that can't be read. */
  static async open(
    dataDir: string,
    rules: NetworkRules,
    decided: (decision: EgressDecision) => void,
  ): Promise<Egress> {
    const allow = new AllowList(rules.allow);
    const proxy = new EgressProxy({ allow, decided, trusted: new Set(rules.trusted) });
    const top = join(dataDir, "egress");
    mkdirSync(top, { recursive: true });
    chmodSync(top, 0o711);
    const dir = join(top, Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex"));
    mkdirSync(dir);
    chmodSync(dir, 0o755);
    try {
      await proxy.listen(join(dir, SOCKET));
    } catch (error) {
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
    chmodSync(join(dir, SOCKET), 0o666);
    return new Egress(dir, proxy);
  }

  /** Removes what executors before this one left. */
  static cleanUp(dataDir: string): void {
    rmSync(join(dataDir, "egress"), { recursive: true, force: true });
  }

  private constructor(dir: string, proxy: EgressProxy) {
    this.dir = dir;
    this.#proxy = proxy;
  }

  async close(): Promise<void> {
    await this.#proxy.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Listens where the variables say, and leads to the socket. `runtime` is the directory of init inside the sandbox. */
export function relayCommand(runtime: string): string[] {
  return [`${runtime}/init`, "relay", String(PROXY_PORT), `${EGRESS_DIR}/${SOCKET}`];
}

/** Variables that programs of a sandbox with a way out at this port have. */
export function proxyVariables(port: number): Record<string, string> {
  const url = `http://127.0.0.1:${port}`;
  const own = "localhost,127.0.0.1,::1";
  return { HTTP_PROXY: url, HTTPS_PROXY: url, http_proxy: url, https_proxy: url, NO_PROXY: own, no_proxy: own };
}
