import { isLoopback, type Config } from "../config.ts";
import { AppError } from "../errors.ts";
import { hashOf, OPERATOR_TENANT } from "../keys/key.ts";
import type { Keys } from "../keys/keys.ts";
import { checkOrigin } from "./origin.ts";

export type AccessConfig = Pick<Config, "host" | "authMode" | "allowedHosts" | "corsOrigins">;

/**
 * Who may call a route. `public`: everybody. `key`: whoever has a key. `monitor`: the same, and while keys can't be read also
 * whoever was let in shortly before, since figures are wanted most in an outage of the database.
 */
export type RouteAccess = "public" | "key" | "monitor";

/** For how long `monitor` remembers a caller, in milliseconds, and how many. */
const REMEMBERED_MS = 15 * 60_000;
const REMEMBERED = 64;
const NOBODY = "";

/** Decides who calls (contract, Access). */
export class Access {
  readonly #config: AccessConfig;
  readonly #keys: Keys;
  readonly #isLocal: boolean;
  /** Tenants of the last callers of `monitor` routes by the hash of their key, or of none, and when they were let in. */
  readonly #recent = new Map<string, { tenant: string; atMs: number }>();

  constructor(config: AccessConfig, keys: Keys) {
    this.#config = config;
    this.#keys = keys;
    this.#isLocal = isLoopback(config.host);
  }

  /** The caller's tenant; empty for an anonymous caller of a public route. `unauthorized` or `forbidden_origin`. */
  async tenantOf(headers: Headers, access: RouteAccess): Promise<string> {
    if (access !== "monitor") return this.#decide(headers, access === "public");
    const presented = keyOf(headers);
    const caller = presented === null ? NOBODY : hashOf(presented);
    try {
      const tenant = await this.#decide(headers, false);
      this.#remember(caller, tenant);
      return tenant;
    } catch (error) {
      const recent = this.#recent.get(caller);
      if (!(error instanceof AppError) || error.code !== "store_unavailable") this.#recent.delete(caller);
      else if (recent !== undefined && performance.now() - recent.atMs < REMEMBERED_MS) {
        if (this.#isLocal && caller === NOBODY) checkOrigin(headers, this.#config);
        return recent.tenant;
      }
      throw error;
    }
  }

  #remember(caller: string, tenant: string): void {
    this.#recent.delete(caller);
    this.#recent.set(caller, { tenant, atMs: performance.now() });
    const [oldest] = this.#recent.size > REMEMBERED ? this.#recent.keys() : [];
    if (oldest !== undefined) this.#recent.delete(oldest);
  }

  async #decide(headers: Headers, isPublic: boolean): Promise<string> {
    if (await this.#isOpen(isPublic)) {
      if (this.#isLocal) checkOrigin(headers, this.#config);
      return OPERATOR_TENANT;
    }
    if (isPublic) return "";
    const key = keyOf(headers);
    if (key === null) throw new AppError("unauthorized", "send a key: Authorization: Bearer KEY, or X-API-Key: KEY");
    const caller = await this.#keys.authenticate(key);
    if (caller === null) throw new AppError("unauthorized", "the key is not valid");
    return caller.tenant;
  }

  /** A public route answers also while the keys can't be read. */
  async #isOpen(isPublic: boolean): Promise<boolean> {
    if (this.#config.authMode === "none") return true;
    if (!this.#isLocal) return false;
    const any = this.#keys.any();
    return !(await (isPublic ? any.catch(() => true) : any));
  }
}

function keyOf(headers: Headers): string | null {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.get("authorization") ?? "")?.[1];
  return bearer ?? headers.get("x-api-key");
}
