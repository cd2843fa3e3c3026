import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import { checkEnvironment } from "../sessions/limits.ts";
import type { SessionStore } from "../sessions/session.ts";
import type { RuntimeType, Template, TemplateStore } from "./template.ts";

/** What a caller may change of a template; sizes in cores and MiB, `default_timeout` in seconds. */
export type TemplateChange = {
  name?: string | undefined;
  image_url?: string | undefined;
  default_cpu_cores?: number | undefined;
  default_memory_mb?: number | undefined;
  default_disk_mb?: number | undefined;
  default_timeout?: number | undefined;
  default_env_vars?: Record<string, string> | undefined;
  warm_pool_size?: number | undefined;
  preload_modules?: string[] | undefined;
  network?: { allow: string[] } | undefined;
  is_active?: boolean | undefined;
};

/** A new template; what is absent takes the contract's defaults. */
export type TemplateInput = TemplateChange & {
  id: string;
  name: string;
  image_url: string;
  runtime_type: RuntimeType;
};

const DEFAULTS = {
  default_cpu_cores: 0.5,
  default_memory_mb: 512,
  default_disk_mb: 1024,
  warm_pool_size: 0,
  is_active: true,
};

const FIRST: readonly TemplateInput[] = [
  {
    id: "python-basic",
    name: "Python Basic",
    image_url: "sandbox-template-python-basic:latest",
    runtime_type: "python3.11",
    default_cpu_cores: 1,
  },
  {
    id: "nodejs-basic",
    name: "Node.js Basic",
    image_url: "sandbox-template-nodejs-basic:latest",
    runtime_type: "nodejs20",
    default_cpu_cores: 1,
  },
];

/** The operations on templates. Every method throws AppError. */
export class Templates {
  readonly #store: TemplateStore;
  readonly #sessions: Pick<SessionStore, "countLiveByTemplate">;
  readonly #clock: Clock;
  readonly #checkNetwork: (rules: readonly string[]) => void;

  /** `checkNetwork` throws `bad_request` for rules that can't be read. */
  constructor(
    store: TemplateStore,
    sessions: Pick<SessionStore, "countLiveByTemplate">,
    clock: Clock,
    checkNetwork: (rules: readonly string[]) => void,
  ) {
    this.#store = store;
    this.#sessions = sessions;
    this.#clock = clock;
    this.#checkNetwork = checkNetwork;
  }

  /**
   * `template_exists` when the id or the name is taken, `invalid_environment` for variables and `bad_request` for network
   * rules that no session may have.
   */
  async create(input: TemplateInput): Promise<Template> {
    const env = input.default_env_vars ?? {};
    checkEnvironment(env);
    const network = input.network?.allow ?? [];
    this.#checkNetwork(network);
    const at = this.#clock.now().toISOString();
    const template: Template = {
      id: input.id,
      name: input.name,
      image_url: input.image_url,
      runtime_type: input.runtime_type,
      default_cpu_cores: input.default_cpu_cores ?? DEFAULTS.default_cpu_cores,
      default_memory_mb: input.default_memory_mb ?? DEFAULTS.default_memory_mb,
      default_disk_mb: input.default_disk_mb ?? DEFAULTS.default_disk_mb,
      default_timeout: input.default_timeout ?? null,
      default_env_vars: env,
      warm_pool_size: input.warm_pool_size ?? DEFAULTS.warm_pool_size,
      preload_modules: input.preload_modules ?? [],
      network,
      is_active: input.is_active ?? DEFAULTS.is_active,
      created_at: at,
      updated_at: at,
    };
    await this.#store.insert(template);
    return template;
  }

  async get(id: string): Promise<Template> {
    return (await this.#store.get(id)) ?? missing(id);
  }

  /** All, by name. */
  list(): Promise<Template[]> {
    return this.#store.list();
  }

  /** Changes the given fields; sessions that exist keep what they started with. */
  async update(id: string, change: TemplateChange): Promise<Template> {
    if (change.default_env_vars !== undefined) checkEnvironment(change.default_env_vars);
    if (change.network !== undefined) this.#checkNetwork(change.network.allow);
    const fields = given(change);
    if (Object.keys(fields).length === 0) return this.get(id);
    const changed = await this.#store.update(id, { ...fields, updated_at: this.#clock.now().toISOString() });
    return changed ? this.get(id) : missing(id);
  }

  /** `template_in_use` while a live session uses it; no session can start from it in between. */
  async delete(id: string): Promise<void> {
    if (await this.#store.delete(id)) return;
    await this.get(id);
    const count = await this.#sessions.countLiveByTemplate(id);
    const users = count === 1 ? "1 live session uses" : `${count} live sessions use`;
    throw new AppError("template_in_use", `${users} template ${id}`);
  }

  /** Makes the first templates in a store that has none; harmless when several processes do it at once. */
  async seed(): Promise<void> {
    if ((await this.#store.list()).length > 0) return;
    for (const input of FIRST) {
      try {
        await this.create(input);
      } catch (error) {
        if (!(error instanceof AppError) || error.code !== "template_exists") throw error;
      }
    }
  }
}

function missing(id: string): never {
  throw new AppError("template_not_found", `there is no template ${id}`);
}

/** The fields that a caller may change and has given; `id`, `runtime_type` and unknown ones are left out. */
function given(change: TemplateChange): Partial<Template> {
  const fields: { [K in keyof Required<TemplateChange>]: Template[K] | undefined } = {
    name: change.name,
    image_url: change.image_url,
    default_cpu_cores: change.default_cpu_cores,
    default_memory_mb: change.default_memory_mb,
    default_disk_mb: change.default_disk_mb,
    default_timeout: change.default_timeout,
    default_env_vars: change.default_env_vars,
    warm_pool_size: change.warm_pool_size,
    preload_modules: change.preload_modules,
    network: change.network?.allow,
    is_active: change.is_active,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
