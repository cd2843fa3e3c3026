import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import { hashOf, hintOf, newKey, OPERATOR_TENANT, sameHash, type ApiKey, type KeyStore } from "./key.ts";

/** A key as callers see it: without its hash. */
export type KeyView = Omit<ApiKey, "hash" | "created_at"> & {
  /** `configured` ones come from API_KEYS and are changed there. */
  source: "stored" | "configured";
  created_at: string | null;
};

export type KeyInput = { name: string; tenant?: string | undefined };

export type KeysDeps = {
  store: KeyStore;
  clock: Clock;
  /** Keys of API_KEYS. */
  configured: readonly { name: string; key: string }[];
};

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const USE_NOTED_EVERY_MS = 60_000;

/**
 * The operations on API keys. `caller` is a tenant: the operator's manages all keys, another one its own alone. Every
 * method throws AppError.
 */
export class Keys {
  readonly #store: KeyStore;
  readonly #clock: Clock;
  readonly #configured: readonly ApiKey[];

  constructor(deps: KeysDeps) {
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#configured = deps.configured.map(({ name, key }) => ({
      name,
      tenant: name,
      hash: hashOf(key),
      hint: hintOf(key),
      created_at: "",
      last_used_at: null,
      revoked_at: null,
    }));
  }

  /** Makes a key. This is the only time that `key` can be read. The tenant is the name's, unless it is given. */
  async create(caller: string, input: KeyInput): Promise<KeyView & { key: string }> {
    const tenant = input.tenant ?? (caller === OPERATOR_TENANT ? input.name : caller);
    if (!NAME.test(input.name) || !NAME.test(tenant))
      throw new AppError(
        "bad_request",
        "names of keys and tenants are 1 to 64 of [A-Za-z0-9._-] and start alphanumeric",
      );
    if (caller !== OPERATOR_TENANT && tenant !== caller)
      throw new AppError("bad_request", `keys of tenant ${tenant} can't be made with a key of tenant ${caller}`);
    if (this.#configured.some((one) => one.name === input.name))
      throw new AppError("key_exists", `key ${input.name} exists already, in API_KEYS`);
    const key = newKey();
    const made: ApiKey = {
      name: input.name,
      tenant,
      hash: hashOf(key),
      hint: hintOf(key),
      created_at: this.#clock.now().toISOString(),
      last_used_at: null,
      revoked_at: null,
    };
    await this.#store.insert(made);
    return { ...view(made, "stored"), key };
  }

  /** Every key that the caller may see, revoked ones too, by name. */
  async list(caller: string): Promise<KeyView[]> {
    const stored = (await this.#store.list()).map((key) => view(key, "stored"));
    const configured = this.#configured.map((key) => view(key, "configured"));
    return [...stored, ...configured]
      .filter((key) => caller === OPERATOR_TENANT || key.tenant === caller)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Ends a key at once, in every process. */
  async revoke(caller: string, name: string): Promise<void> {
    const configured = this.#configured.find((one) => one.name === name);
    const key = configured ?? (await this.#store.get(name));
    if (key === null || (caller !== OPERATOR_TENANT && key.tenant !== caller)) throw missing(name);
    if (configured !== undefined)
      throw new AppError("bad_request", `key ${name} comes from API_KEYS: remove it there and start again`);
    if (!(await this.#store.revoke(name, this.#clock.now().toISOString()))) throw missing(name);
  }

  /** Whether any key is valid. */
  async any(): Promise<boolean> {
    return this.#configured.length > 0 || (await this.#store.any());
  }

  /** Whose key it is; null when it is none, or revoked. */
  async authenticate(presented: string): Promise<{ tenant: string; name: string } | null> {
    const hash = hashOf(presented);
    let found: ApiKey | null = null;
    for (const one of this.#configured) if (sameHash(one.hash, hash)) found = one;
    if (found !== null) return { tenant: found.tenant, name: found.name };
    const stored = await this.#store.findByHash(hash);
    if (stored === null || !sameHash(stored.hash, hash)) return null;
    await this.#noteUse(stored);
    return { tenant: stored.tenant, name: stored.name };
  }

  /** A key is good also while the database can be read and not written, as on a full disk. */
  async #noteUse(key: ApiKey): Promise<void> {
    const now = this.#clock.now();
    const last = key.last_used_at === null ? Number.NEGATIVE_INFINITY : Date.parse(key.last_used_at);
    if (now.getTime() - last < USE_NOTED_EVERY_MS) return;
    try {
      await this.#store.used(key.name, now.toISOString());
    } catch (error) {
      if (!(error instanceof AppError && error.code === "store_unavailable")) throw error;
    }
  }

  /**
   * For a server that requires a key: makes the operator's first one when there is none at all, and returns it, to be shown
   * once; null when there is one, also when another process made it just now.
   */
  async makeFirst(): Promise<string | null> {
    if (await this.any()) return null;
    try {
      return (await this.create(OPERATOR_TENANT, { name: "first", tenant: OPERATOR_TENANT })).key;
    } catch (error) {
      if (error instanceof AppError && error.code === "key_exists") return null;
      throw error;
    }
  }
}

function view(key: ApiKey, source: KeyView["source"]): KeyView {
  const { hash: _, ...shown } = key;
  return { ...shown, source, created_at: source === "stored" ? key.created_at : null };
}

function missing(name: string): AppError {
  return new AppError("key_not_found", `there is no key ${name}`);
}
