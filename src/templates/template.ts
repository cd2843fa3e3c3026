export const RUNTIME_TYPES = [
  "python3.11",
  "python3.12",
  "python3.13",
  "nodejs20",
  "nodejs22",
  "bun",
  "java17",
  "go1.21",
] as const;
export type RuntimeType = (typeof RUNTIME_TYPES)[number];

/** What a session starts from. Field names are the wire's (contract, Templates). */
export type Template = {
  id: string;
  name: string;
  image_url: string;
  runtime_type: RuntimeType;
  default_cpu_cores: number;
  default_memory_mb: number;
  default_disk_mb: number;
  /** Seconds; null: the configured DEFAULT_TIMEOUT, whatever it is when a session is made. */
  default_timeout: number | null;
  default_env_vars: Record<string, string>;
  warm_pool_size: number;
  /** Python modules of the image that its sandboxes import while idle, so that a program's import of them costs nothing. */
  preload_modules: string[];
  /** What its sessions may connect to unless they say otherwise, as rules; empty: nothing. */
  network: string[];
  is_active: boolean;
  created_at: string;
  updated_at: string;
};

/** The records of templates. */
export interface TemplateStore {
  /** Throws `template_exists` when the id or the name is taken. */
  insert(template: Template): Promise<void>;
  get(id: string): Promise<Template | null>;
  /** All, by name. */
  list(): Promise<Template[]>;
  /** Writes the given fields. Throws `template_exists` when the new name is taken. False when there is no such template. */
  update(id: string, fields: Partial<Omit<Template, "id">>): Promise<boolean>;
  /** Deletes it unless a live session uses it; false when there is none or it is in use. No session of it can slip in between. */
  delete(id: string): Promise<boolean>;
}
