import { describe, expect, test } from "bun:test";
import { ConfigError, isLoopback, loadConfig, settingsHelp, settingsTable, takeFlags } from "../../src/config.ts";
import { SETTINGS } from "../../src/settings.ts";
import { INCOMPLETE_SETTINGS, WRONG_SETTINGS } from "./wrong-settings.ts";

const SECRETS = new Set([
  "API_KEYS",
  "DATABASE_URL",
  "DATABASE_PASSWORD",
  "EXECUTOR_TOKEN_SECRET",
  "S3_SECRET_ACCESS_KEY",
]);

function refusal(env: Record<string, string>, flags: Record<string, string> = {}): string {
  try {
    loadConfig(env, flags);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return "accepted";
}

describe("defaults", () => {
  test("are the contract's", () => {
    expect(loadConfig({ XDG_DATA_HOME: "/data" })).toEqual({
      environment: "production",
      host: "127.0.0.1",
      port: 8000,
      dataDir: "/data/sandbox",
      database: { kind: "sqlite", path: "/data/sandbox/sandbox.db" },
      defaultTimeoutS: 300,
      maxTimeoutS: 3600,
      disableBwrap: false,
      allowUnisolated: false,
      s3: null,
      provisioner: "local",
      kubernetesNamespace: "sandbox-runtime",
      packageIndexUrl: null,
      idleMs: null,
      lifetimeMs: null,
      creatingTimeoutMs: 300_000,
      sessionRetentionMs: 30 * 24 * 3600_000,
      journalsLimitBytes: 10 * 1024 ** 3,
      executionRetentionMs: 30 * 24 * 3600_000,
      logLevel: "info",
      logFormat: "json",
      maxCpu: 4,
      maxMemoryBytes: 8 * 1024 ** 3,
      maxDiskBytes: 50 * 1024 ** 3,
      maxProcesses: 128,
      maxRunningPerSession: 8,
      maxWaitingPerSession: 64,
      outputLimitBytes: 10_000_000,
      journalLimitBytes: 268_435_456,
      maxFileBytes: 104_857_600,
      maxBodyBytes: 16_777_216,
      bodyPatienceMs: 30_000,
      layersLimitBytes: 4 * 1024 ** 3,
      authMode: "auto",
      apiKeys: [],
      allowedHosts: [],
      corsOrigins: [],
      maxSessionsPerTenant: null,
      maxExecutionsPerTenant: null,
      requestsPerMinute: null,
      drainGraceMs: 0,
      drainWaitMs: 0,
      sandboxUidBase: 200_000,
      executorExternal: false,
      executorLinger: true,
      databasePassword: null,
      executorTokenSecret: null,
      executorImage: "sandbox-control-plane:latest",
      objectGraceMs: 86_400_000,
      privateNetworkRanges: [],
      runtimeClass: null,
    });
  });

  test("the data directory follows the XDG variable, then who starts it", () => {
    const other = process.getuid?.() === 0 ? "/var/lib/sandbox" : "/home/me/.local/share/sandbox";
    expect(loadConfig({ HOME: "/home/me" }).dataDir).toBe(other);
    expect(loadConfig({ HOME: "/home/me", XDG_DATA_HOME: "not/absolute" }).dataDir).toBe(other);
    expect(loadConfig({ DATA_DIR: "/d/../e", XDG_DATA_HOME: "/x" }).dataDir).toBe("/e");
  });

  test("inside a cluster the sandboxes are Pods", () => {
    const inCluster = { KUBERNETES_SERVICE_HOST: "10.96.0.1" };
    expect(loadConfig(inCluster).provisioner).toBe("kubernetes");
    expect(loadConfig({ ...inCluster, PROVISIONER: "local" }).provisioner).toBe("local");
  });
});

describe("values", () => {
  test("a flag wins over the environment, and an empty value counts as not given", () => {
    expect(loadConfig({ PORT: "1" }, { PORT: "2" }).port).toBe(2);
    expect(loadConfig({ PORT: "" }).port).toBe(8000);
    expect(loadConfig({ PORT: " 9000 \n" }).port).toBe(9000);
  });

  test("units are those of the names", () => {
    const config = loadConfig({
      IDLE_THRESHOLD_MINUTES: "30",
      MAX_LIFETIME_HOURS: "6",
      CREATING_TIMEOUT_SECONDS: "60",
      MAX_MEMORY_MB: "2048",
      MAX_DISK_MB: "16",
    });
    expect(config).toMatchObject({
      idleMs: 1_800_000,
      lifetimeMs: 21_600_000,
      creatingTimeoutMs: 60_000,
      maxMemoryBytes: 2_147_483_648,
      maxDiskBytes: 16_777_216,
    });
    expect(loadConfig({ IDLE_THRESHOLD_MINUTES: "-1" }).idleMs).toBeNull();
  });

  test("switches take the usual words", () => {
    for (const word of ["true", "1", "YES", "on"])
      expect(loadConfig({ EXECUTOR_LINGER: word }).executorLinger).toBe(true);
    for (const word of ["false", "0", "No", "off"])
      expect(loadConfig({ EXECUTOR_LINGER: word }).executorLinger).toBe(false);
  });

  const databases: [string, object][] = [
    ["sqlite:", { kind: "sqlite", path: "/d/sandbox.db" }],
    ["sqlite://", { kind: "sqlite", path: "/d/sandbox.db" }],
    ["sqlite:/x/y.db", { kind: "sqlite", path: "/x/y.db" }],
    ["sqlite:///x/y.db", { kind: "sqlite", path: "/x/y.db" }],
    ["sqlite::memory:", { kind: "sqlite", path: ":memory:" }],
    ["mysql://u:p@h:3307/d", { kind: "mysql", url: "mysql://u:p@h:3307/d" }],
    ["mysql+aiomysql://u:p@h/d", { kind: "mysql", url: "mysql://u:p@h/d" }],
    ["mariadb://u@h/d?ssl=1", { kind: "mysql", url: "mysql://u@h/d?ssl=1" }],
  ];
  for (const [url, database] of databases)
    test(`DATABASE_URL=${url}`, () =>
      expect<object>(loadConfig({ DATABASE_URL: url, DATA_DIR: "/d" }).database).toEqual(database));

  test("lists", () => {
    const config = loadConfig({
      API_KEYS: "ci:secret, ops.2:a:b:c ,",
      ALLOWED_HOSTS: "Sandbox.example.com,*.internal,[::1]",
      CORS_ORIGINS: "https://app.example.com,http://localhost:3000",
    });
    expect(config.apiKeys).toEqual([
      { name: "ci", key: "secret" },
      { name: "ops.2", key: "a:b:c" },
    ]);
    expect(config.allowedHosts).toEqual(["sandbox.example.com", "*.internal", "::1"]);
    expect(config.corsOrigins).toEqual(["https://app.example.com", "http://localhost:3000"]);
  });

  test("an object store needs its keys, and is reached by clients where it is reached from here", () => {
    const S3_ENDPOINT_URL = "http://minio:9000";
    expect(loadConfig({ S3_ENDPOINT_URL, S3_ACCESS_KEY_ID: "a", S3_SECRET_ACCESS_KEY: "s" }).s3).toEqual({
      endpointUrl: S3_ENDPOINT_URL,
      publicEndpointUrl: S3_ENDPOINT_URL,
      accessKeyId: "a",
      secretAccessKey: "s",
      region: "us-east-1",
      bucket: "sandbox-workspace",
    });
    expect(refusal({ S3_ENDPOINT_URL })).toContain("S3_ACCESS_KEY_ID");
    expect(refusal({ S3_ENDPOINT_URL, S3_ACCESS_KEY_ID: "a" })).toContain("S3_SECRET_ACCESS_KEY");
  });
});

describe("a bad value is one line that names the variable, the value and what is allowed", () => {
  test("of every variable", () => {
    const numbers = Object.values(SETTINGS).filter(({ allowed }) =>
      /^(-1 \(off\) or )?a (whole )?number /.test(allowed),
    );
    const refused = new Set([
      ...WRONG_SETTINGS.map(([variable]) => variable),
      ...numbers.map(({ variable }) => variable),
    ]);
    expect(Object.values(SETTINGS).filter(({ variable }) => !refused.has(variable))).toEqual([]);
    for (const { variable, allowed } of numbers)
      for (const value of ["many", "-7", "1e99", "0x10", "1 2"])
        expect(refusal({ [variable]: value })).toBe(`${variable}=${value} is not valid: allowed is ${allowed}`);
  });

  for (const [variable, value, allowed] of WRONG_SETTINGS)
    test(`${variable}=${value.replace("\0", "?")}`, () => {
      const message = refusal({ [variable]: value });
      expect(message).toMatch(new RegExp(`^${variable}=.* is not valid: allowed is `));
      if (!SECRETS.has(variable)) expect(message).toStartWith(`${variable}=${value.replace("\0", "?")} `);
      expect(message).toContain(allowed);
      expect(message).not.toContain("\n");
    });

  test("also with control characters, or very long", () => {
    expect(refusal({ LOG_LEVEL: "a\nb\u001b[31m" })).toStartWith("LOG_LEVEL=a?b?[31m is not valid");
    expect(refusal({ LOG_LEVEL: "x".repeat(100_000) }).length).toBeLessThan(400);
  });

  for (const [settings, line] of INCOMPLETE_SETTINGS)
    test(`also without what ${Object.keys(settings).join(", ")} needs`, () => {
      const message = refusal(settings);
      expect(message).toContain(line);
      expect(message).not.toContain("\n");
    });

  test("but secrets are not shown", () => {
    for (const env of [
      { DATABASE_URL: "postgres://user:hunter2@h/d" },
      { DATABASE_URL: "mysql://user:hunter2:x@y@h" },
      { API_KEYS: "hunter2" },
      { API_KEYS: "a:hunter2,a:other" },
      { S3_SECRET_ACCESS_KEY: "hunter2 x" },
    ]) {
      const message = refusal(env);
      expect(message).toContain("is not valid");
      expect(message).not.toContain("hunter2");
    }
  });

  test("code without isolation must be allowed by name, on the edge", () => {
    expect(refusal({ DISABLE_BWRAP: "true" })).toContain("ALLOW_UNISOLATED=true");
    expect(loadConfig({ DISABLE_BWRAP: "true", ALLOW_UNISOLATED: "true" }).disableBwrap).toBe(true);
    expect(loadConfig({ DISABLE_BWRAP: "true", PROVISIONER: "kubernetes" }).disableBwrap).toBe(true);
  });
});

describe("flags", () => {
  test("are taken from among the other arguments, in both spellings", () => {
    const { flags, rest } = takeFlags([
      "serve",
      "--host",
      "0.0.0.0",
      "--port=9000",
      "--disable-bwrap",
      "file",
      "--language",
      "x",
    ]);
    expect(flags).toEqual({ HOST: "0.0.0.0", PORT: "9000", DISABLE_BWRAP: "true" });
    expect(rest).toEqual(["serve", "file", "--language", "x"]);
  });

  test("end at --, and may hold = or be set to false", () => {
    const { flags, rest } = takeFlags([
      "--executor-linger=false",
      "--database-url=mysql://h/d?a=b",
      "--",
      "--port",
      "1",
    ]);
    expect(flags).toEqual({ EXECUTOR_LINGER: "false", DATABASE_URL: "mysql://h/d?a=b" });
    expect(rest).toEqual(["--", "--port", "1"]);
  });

  test("without their value are refused", () => {
    expect(() => takeFlags(["--port"])).toThrow(ConfigError);
  });

  test("a bad one is refused as the variable is", () => {
    expect(refusal({}, takeFlags(["--port=x"]).flags)).toStartWith("PORT=x is not valid");
  });
});

describe("documents", () => {
  const variables = Object.values(SETTINGS).map((setting) => setting.variable);

  test("help names every flag once, the table every variable once, in rows of three cells", () => {
    expect(new Set(variables).size).toBe(variables.length);
    for (const variable of variables) {
      const flag = `--${variable.toLowerCase().replaceAll("_", "-")}`;
      expect(settingsHelp().match(new RegExp(`^  ${flag}( VALUE|\\[=true\\|false\\])$`, "gm"))).toHaveLength(1);
      expect(settingsTable().match(new RegExp(`^\\| \`${variable}\` \\|`, "gm"))).toHaveLength(1);
    }
    for (const row of settingsTable().trim().split("\n")) expect(row.replaceAll("\\|", "").split("|")).toHaveLength(5);
  });

  test("every default that is shown is the one in force", () => {
    for (const setting of Object.values(SETTINGS)) {
      if (/[` ]|unset|^S3_/.test(setting.shownDefault)) continue;
      expect(setting.parse(setting.shownDefault), setting.variable).toEqual(setting.fallback({}));
    }
  });
});

test("loopback is every address that only this machine reaches", () => {
  for (const host of ["127.0.0.1", "127.9.9.9", "::1", "localhost"]) expect(isLoopback(host)).toBe(true);
  for (const host of ["0.0.0.0", "::", "192.168.0.1", "127.0.0.1.example.com", "example.com"])
    expect(isLoopback(host)).toBe(false);
});
