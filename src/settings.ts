import { join } from "node:path";
import type { LogFormat, LogLevel } from "./log.ts";
import {
  httpUrl,
  list,
  onOff,
  oneOf,
  optionalBound,
  parseAllowedHost,
  parseHost,
  parseOrigin,
  secret,
  text,
  whole,
  type Environment,
  type Setting,
} from "./setting.ts";
import { CLUSTER_SETTINGS } from "./settings-cluster.ts";
import { LIMIT_SETTINGS } from "./settings-limits.ts";
import { UPKEEP_SETTINGS } from "./settings-upkeep.ts";

const LOG_LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];
const LOG_FORMATS: readonly LogFormat[] = ["json", "text"];
const MINUTE_MS = 60_000;
/** A year of seconds: the longest time that a setting takes. */
const YEAR_S = 31_536_000;

/** Where the records are: a file (null: in the data directory), or a server. */
export type DatabaseSetting = { kind: "sqlite"; path: string | null } | { kind: "mysql"; url: string };

/** One entry of API_KEYS. */
export type ConfiguredKey = { name: string; key: string };

function defaultDataDir(env: Environment): string {
  const data = env["XDG_DATA_HOME"];
  if (data !== undefined && data.startsWith("/")) return join(data, "sandbox");
  const home = env["HOME"];
  const isRoot = process.getuid?.() === 0;
  return isRoot || home === undefined || home === "" ? "/var/lib/sandbox" : join(home, ".local/share/sandbox");
}

function parseDatabaseUrl(given: string): DatabaseSetting | undefined {
  const file = /^sqlite:(?:\/\/(?=\/|$))?(.*)$/.exec(given)?.[1];
  if (file !== undefined) return { kind: "sqlite", path: file === "" ? null : file };
  const url = URL.parse(given.replace(/^(mysql(\+[a-z]+)?|mariadb(\+[a-z]+)?):/, "mysql:"));
  if (url?.protocol !== "mysql:" || url.hostname === "" || url.pathname.length < 2) return undefined;
  return { kind: "mysql", url: url.href };
}

const dataDir: Setting<string> = {
  ...text("DATA_DIR", /^[^\0]+$/, "a path", {
    default: "",
    shownDefault: "`$XDG_DATA_HOME/sandbox` or `/var/lib/sandbox`",
    about: "directory for database, objects and workspaces on the edge; locked by one process",
  }),
  fallback: defaultDataDir,
};

const database: Setting<DatabaseSetting> = {
  variable: "DATABASE_URL",
  about:
    "where the records are; `sqlite:PATH` for another file, `mysql://` or `mariadb://` (also `mysql+aiomysql://`) for a server",
  allowed: "sqlite:[PATH] or mysql://USER:PASSWORD@HOST[:PORT]/DATABASE (also mariadb://, mysql+aiomysql://)",
  fallback: () => ({ kind: "sqlite", path: null }),
  shownDefault: "`sqlite:` in the data directory",
  parse: parseDatabaseUrl,
  isSwitch: false,
  redact: (given) => given.replace(/(:\/\/[^:/@]*):.*@/, "$1:***@"),
};

function parseApiKey(item: string): ConfiguredKey | undefined {
  const [, name, key] = /^([A-Za-z0-9][A-Za-z0-9._-]{0,63}):(\S{1,512})$/.exec(item) ?? [];
  return name === undefined || key === undefined ? undefined : { name, key };
}

const listedKeys = list(
  "API_KEYS",
  "NAME:KEY[,NAME:KEY…], every name once",
  "keys that are accepted besides those in the database; the name is the tenant",
  parseApiKey,
);
const apiKeys: Setting<ConfiguredKey[]> = {
  ...secret(listedKeys),
  parse: (given) => {
    const keys = listedKeys.parse(given);
    return keys !== undefined && new Set(keys.map((key) => key.name)).size === keys.length ? keys : undefined;
  },
};

const provisioner: Setting<"local" | "kubernetes"> = {
  ...oneOf("PROVISIONER", ["local", "kubernetes"], {
    default: "local",
    shownDefault: "kubernetes inside a cluster, else local",
    about: "where sandboxes run: jails on this host, or Pods",
  }),
  fallback: (env) => ((env["KUBERNETES_SERVICE_HOST"] ?? "") === "" ? "local" : "kubernetes"),
};

const host: Setting<string> = {
  ...text("HOST", /./, "a host name or an IP address", {
    default: "127.0.0.1",
    about: "address to listen on; beyond loopback a key is required",
  }),
  parse: parseHost,
};

/** Every setting, by the name of its field in Config, in the order in which documents show them. */
export const SETTINGS = {
  environment: text("ENVIRONMENT", /^[A-Za-z][A-Za-z0-9_-]{0,31}$/, "a name such as production or development", {
    default: "production",
    about: "name of the deployment, for logs",
  }),
  host,
  port: whole("PORT", {
    default: 8000,
    min: 0,
    max: 65_535,
    about: "TCP port; 0 takes a free one",
  }),
  dataDir,
  database,
  defaultTimeoutS: whole("DEFAULT_TIMEOUT", {
    default: 300,
    min: 1,
    max: YEAR_S,
    about: "seconds without use after which a session ends, unless it or its template says",
  }),
  maxTimeoutS: whole("MAX_TIMEOUT", {
    default: 3600,
    min: 1,
    max: YEAR_S,
    about: "highest timeout that a session may ask for, in seconds",
  }),
  disableBwrap: onOff("DISABLE_BWRAP", {
    default: false,
    about: "run code without a jail; on the edge refused unless ALLOW_UNISOLATED=true",
  }),
  allowUnisolated: onOff("ALLOW_UNISOLATED", {
    default: false,
    about: "accept that code runs without isolation; said in the log on every start",
  }),
  s3EndpointUrl: httpUrl("S3_ENDPOINT_URL", {
    default: null,
    shownDefault: "unset: objects in the data directory",
    about: "object store to use",
  }),
  s3AccessKeyId: text("S3_ACCESS_KEY_ID", /^\S{1,256}$/, "a key without spaces", {
    default: null,
    about: "access key of the object store",
  }),
  s3SecretAccessKey: secret(
    text("S3_SECRET_ACCESS_KEY", /^\S{1,256}$/, "a key without spaces", {
      default: null,
      about: "secret key of the object store",
    }),
  ),
  s3Region: text("S3_REGION", /^[A-Za-z0-9-]{1,64}$/, "a region name", {
    default: "us-east-1",
    about: "region of the object store",
  }),
  s3Bucket: text("S3_BUCKET", /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "a bucket name of 3 to 63 of [a-z0-9.-]", {
    default: "sandbox-workspace",
    about: "bucket; made at start if it is missing",
  }),
  s3PublicEndpointUrl: httpUrl("S3_PUBLIC_ENDPOINT_URL", {
    default: null,
    shownDefault: "S3_ENDPOINT_URL",
    about: "object store as clients reach it, for presigned URLs",
  }),
  provisioner,
  kubernetesNamespace: text("KUBERNETES_NAMESPACE", /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "a namespace name", {
    default: "sandbox-runtime",
    about: "namespace of the sandboxes' Pods",
  }),
  packageIndexUrl: httpUrl("PYTHON_PACKAGE_INDEX_URL", {
    default: null,
    shownDefault: "the host's pip configuration, else PyPI",
    about: "package index of sessions that name none",
  }),
  idleMs: optionalBound("IDLE_THRESHOLD_MINUTES", {
    max: 525_600,
    scale: MINUTE_MS,
    about: "minutes without use that no session outlives, whatever its own timeout; -1 off",
  }),
  lifetimeMs: optionalBound("MAX_LIFETIME_HOURS", {
    max: 87_600,
    scale: 60 * MINUTE_MS,
    about: "hours that no session outlives; -1 off",
  }),
  creatingTimeoutMs: whole("CREATING_TIMEOUT_SECONDS", {
    default: 300,
    min: 1,
    max: 86_400,
    scale: 1000,
    about: "seconds after which a session that is still creating has failed",
  }),
  ...UPKEEP_SETTINGS,
  logLevel: oneOf("LOG_LEVEL", LOG_LEVELS, {
    default: "info",
    about: "lowest level that is logged",
  }),
  logFormat: oneOf("LOG_FORMAT", LOG_FORMATS, {
    default: "json",
    about: "one JSON object a line, or text for people",
  }),
  ...LIMIT_SETTINGS,
  authMode: oneOf("AUTH_MODE", ["auto", "none"], {
    default: "auto",
    about: "auto: a key is required beyond loopback and once one exists; none: never, said in the log",
  }),
  apiKeys,
  allowedHosts: list(
    "ALLOWED_HOSTS",
    "host names, *.DOMAIN or *, separated by commas",
    "names besides its own by which an open server may be called",
    parseAllowedHost,
  ),
  corsOrigins: list(
    "CORS_ORIGINS",
    "origins such as https://app.example.com, or *, separated by commas",
    "origins whose pages may call the API",
    parseOrigin,
  ),
  maxSessionsPerTenant: optionalBound("MAX_SESSIONS_PER_TENANT", {
    max: 1_000_000,
    about: "live sessions of a tenant; -1 off",
  }),
  maxExecutionsPerTenant: optionalBound("MAX_EXECUTIONS_PER_TENANT", {
    max: 1_000_000,
    about: "executions of a tenant that wait or run; -1 off",
  }),
  requestsPerMinute: optionalBound("REQUESTS_PER_MINUTE", {
    max: 10_000_000,
    about: "requests of a tenant in a minute; -1 off",
  }),
  drainGraceMs: whole("DRAIN_GRACE_SECONDS", {
    default: 0,
    min: 0,
    max: 600,
    scale: 1000,
    about:
      "seconds after SIGTERM in which it is unready and still serves, so that a load balancer turns away from it first",
  }),
  drainWaitMs: whole("DRAIN_WAIT_SECONDS", {
    default: 0,
    min: 0,
    max: 3600,
    scale: 1000,
    about: "seconds after that in which calls that wait for an execution or a session still may",
  }),
  ...CLUSTER_SETTINGS,
  sandboxUidBase: whole("SANDBOX_UID_BASE", {
    default: 200_000,
    min: 1000,
    max: 2_000_000_000,
    about: "first host uid of sandboxes when started by root",
  }),
  executorExternal: onOff("EXECUTOR_EXTERNAL", {
    default: false,
    about: "serve starts no executor, but uses the one that something else keeps running, such as deploy/systemd",
  }),
  executorLinger: onOff("EXECUTOR_LINGER", {
    default: true,
    about: "the executor and what runs in it outlive the end of serve, and the next start takes them up",
  }),
};

export type Settings = typeof SETTINGS;
export type SettingValue<S> = S extends Setting<infer T> ? T : never;
