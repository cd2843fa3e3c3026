import { resolve, join } from "node:path";
import type { Environment, Setting } from "./setting.ts";
import { SETTINGS, type DatabaseSetting, type SettingValue, type Settings } from "./settings.ts";

/** A value that can't be used. `message` is one line that names the variable, the value and what is allowed. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ConfigError";
  }
}

type Values = { [K in keyof Settings]: SettingValue<Settings[K]> };
type Derived =
  | "database"
  | "s3EndpointUrl"
  | "s3AccessKeyId"
  | "s3SecretAccessKey"
  | "s3Region"
  | "s3Bucket"
  | "s3PublicEndpointUrl";

export type DatabaseConfig = { kind: "sqlite"; path: string } | { kind: "mysql"; url: string };

export type S3Config = {
  endpointUrl: string;
  publicEndpointUrl: string;
  accessKeyId: string;
  secretAccessKey: string;
  region: string;
  bucket: string;
};

/** Everything that an operator can set. Names end in their unit: S seconds, Ms milliseconds, Bytes. null is off or unset. */
export type Config = Omit<Values, Derived> & {
  /** `path` is absolute, or `:memory:`. */
  database: DatabaseConfig;
  /** null: objects are kept in the data directory. */
  s3: S3Config | null;
};

/** Flags by variable name, as `takeFlags` gives them. */
export type Flags = Readonly<Record<string, string>>;

function all(): Setting<unknown>[] {
  return Object.values(SETTINGS);
}

function flagOf(variable: string): string {
  return `--${variable.toLowerCase().replaceAll("_", "-")}`;
}

/**
 * Splits the flags of settings (`--host 0.0.0.0`, `--port=9000`, `--disable-bwrap`) from the other arguments, which keep
 * their order. What follows `--` is left alone. Throws ConfigError for a flag without its value.
 */
export function takeFlags(argv: readonly string[]): { flags: Flags; rest: string[] } {
  const byFlag = new Map(all().map((one) => [flagOf(one.variable), one]));
  const flags: Record<string, string> = {};
  const rest: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? "";
    if (word === "--") return { flags, rest: [...rest, ...argv.slice(i)] };
    const equals = word.indexOf("=");
    const setting = byFlag.get(equals < 0 ? word : word.slice(0, equals));
    if (setting === undefined) {
      rest.push(word);
      continue;
    }
    if (equals >= 0) flags[setting.variable] = word.slice(equals + 1);
    else if (setting.isSwitch) flags[setting.variable] = "true";
    else {
      const value = argv[++i];
      if (value === undefined) throw new ConfigError(`${word} needs a value: allowed is ${setting.allowed}`);
      flags[setting.variable] = value;
    }
  }
  return { flags, rest };
}

function valueOf(setting: Setting<unknown>, env: Environment, flags: Flags): unknown {
  const given = (flags[setting.variable] ?? env[setting.variable] ?? "").trim();
  if (given === "") return setting.fallback(env);
  const value = setting.parse(given);
  if (value === undefined) {
    const shown = oneLine(setting.redact(given));
    throw new ConfigError(`${setting.variable}=${shown} is not valid: allowed is ${setting.allowed}`);
  }
  return value;
}

function oneLine(text: string): string {
  const plain = text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]/gu, "?");
  return plain.length > 200 ? `${plain.slice(0, 200)}…` : plain;
}

/**
 * Reads every setting: a flag wins over the environment, an empty value counts as not given. Throws ConfigError for the
 * first value that is not allowed, alone or beside the others.
 */
export function loadConfig(env: Environment, flags: Flags = {}): Config {
  const entries = Object.entries(SETTINGS).map(([name, one]) => [name, valueOf(one as Setting<unknown>, env, flags)]);
  const {
    database,
    s3EndpointUrl,
    s3AccessKeyId,
    s3SecretAccessKey,
    s3Region,
    s3Bucket,
    s3PublicEndpointUrl,
    ...values
  } = Object.fromEntries(entries) as Values;
  checkTogether(values);
  const dataDir = resolve(values.dataDir);
  return {
    ...values,
    dataDir,
    database: resolveDatabase(database, dataDir),
    s3:
      s3EndpointUrl === null
        ? null
        : {
            endpointUrl: s3EndpointUrl,
            publicEndpointUrl: s3PublicEndpointUrl ?? s3EndpointUrl,
            accessKeyId: s3AccessKeyId ?? required("S3_ACCESS_KEY_ID", "S3_ENDPOINT_URL"),
            secretAccessKey: s3SecretAccessKey ?? required("S3_SECRET_ACCESS_KEY", "S3_ENDPOINT_URL"),
            region: s3Region,
            bucket: s3Bucket,
          },
  };
}

function required(variable: string, because: string): never {
  throw new ConfigError(`${variable} is unset: it is needed because ${because} is set`);
}

function checkTogether(values: Omit<Values, Derived>): void {
  if (values.defaultTimeoutS > values.maxTimeoutS)
    throw new ConfigError(
      `DEFAULT_TIMEOUT=${values.defaultTimeoutS} is not valid: allowed is at most MAX_TIMEOUT=${values.maxTimeoutS}`,
    );
  if (values.disableBwrap && !values.allowUnisolated && values.provisioner === "local")
    throw new ConfigError(
      "DISABLE_BWRAP=true is not valid with PROVISIONER=local: code would run without isolation; allowed is false, or true together with ALLOW_UNISOLATED=true",
    );
}

function resolveDatabase(database: DatabaseSetting, dataDir: string): DatabaseConfig {
  if (database.kind === "mysql") return database;
  if (database.path === ":memory:") return { kind: "sqlite", path: ":memory:" };
  return {
    kind: "sqlite",
    path: database.path === null ? join(dataDir, "sandbox.db") : resolve(database.path),
  };
}

/** Whether a server on this address can be reached from this machine alone. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host) || host.startsWith("::ffff:127.");
}

/** The settings as `--help` lists them, one a line pair, for a terminal. */
export function settingsHelp(): string {
  const lines = all().map((one) => {
    const value = one.isSwitch ? "[=true|false]" : " VALUE";
    const fallback = one.shownDefault.replaceAll("`", "");
    return `  ${flagOf(one.variable)}${value}\n      ${one.about.replaceAll("`", "")} (default: ${fallback})`;
  });
  return `Settings: a flag, or the variable of the same name in capitals (--data-dir: DATA_DIR)\n${lines.join("\n")}\n`;
}

/** The settings as a Markdown table, as the README shows them. */
export function settingsTable(): string {
  const rows = all().map((one) => {
    const plain =
      /[`:, ]/.test(one.shownDefault) || one.shownDefault === "unset" ? one.shownDefault : `\`${one.shownDefault}\``;
    return `| \`${one.variable}\` | ${plain} | ${one.about}; ${one.allowed.replaceAll("|", "\\|")} |`;
  });
  return `| variable | default | |\n|---|---|---|\n${rows.join("\n")}\n`;
}
