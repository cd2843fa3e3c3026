import { isLoopback, type Config } from "../config.ts";
import { AppError } from "../errors.ts";
import { OPERATOR_TENANT } from "../keys/key.ts";
import type { Keys } from "../keys/keys.ts";
import { checkOrigin } from "./origin.ts";

export type AccessConfig = Pick<Config, "host" | "authMode" | "allowedHosts" | "corsOrigins">;

/** Decides who calls (contract, Access). */
export class Access {
  readonly #config: AccessConfig;
  readonly #keys: Keys;
  readonly #isLocal: boolean;

  constructor(config: AccessConfig, keys: Keys) {
    this.#config = config;
    this.#keys = keys;
    this.#isLocal = isLoopback(config.host);
  }

  /** The caller's tenant; empty for an anonymous caller of a public route. `unauthorized` or `forbidden_origin`. */
  async tenantOf(headers: Headers, isPublic: boolean): Promise<string> {
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
