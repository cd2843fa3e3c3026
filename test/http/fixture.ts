import { Changes } from "../../src/changes.ts";
import { systemClock, type Clock } from "../../src/clock.ts";
import type { Execution } from "../../src/executions/execution.ts";
import { Executions } from "../../src/executions/executions.ts";
import { createServer, type HttpConfig, type HttpServer, type ServerDeps } from "../../src/http/server.ts";
import { Keys } from "../../src/keys/keys.ts";
import { createLog } from "../../src/log.ts";
import type { Objects } from "../../src/objects/objects.ts";
import type { Provisioner } from "../../src/provisioners/provisioner.ts";
import { Scheduler } from "../../src/scheduler/scheduler.ts";
import type { Session } from "../../src/sessions/session.ts";
import { DependencyInstaller } from "../../src/sessions/dependency-installer.ts";
import { Sessions } from "../../src/sessions/sessions.ts";
import { SqlExecutionStore } from "../../src/stores/execution-store.ts";
import { SqlKeyStore } from "../../src/stores/key-store.ts";
import { SqlAuditStore } from "../../src/stores/audit-store.ts";
import { SqlSessionStore } from "../../src/stores/session-store.ts";
import type { Sql } from "../../src/stores/sql.ts";
import { openSqlite } from "../../src/stores/sqlite.ts";
import { SqlTemplateStore } from "../../src/stores/template-store.ts";
import { Templates } from "../../src/templates/templates.ts";
import { Workspaces } from "../../src/workspaces/workspaces.ts";
import { Client } from "../e2e/client.ts";
import { FakeExecutor } from "./fake-executor.ts";

type LogLine = Record<string, any>; // oxlint-disable-line typescript/no-explicit-any -- a test looks at what was logged

/** The HTTP API over the real domain and SQLite in memory, with an executor that runs no processes. */
export type Api = {
  url: string;
  port: number;
  client: Client;
  executor: FakeExecutor;
  server: HttpServer;
  scheduler: Scheduler;
  deps: ServerDeps;
  /** What was logged so far. */
  logged: LogLine[];
  stop(): Promise<void>;
};

export type ApiOptions = {
  clock?: Clock;
  config?: Partial<HttpConfig>;
  /** Changes the parts before the server is made of them. */
  change?: (deps: ServerDeps) => Partial<ServerDeps>;
  /** How long a program may stay without an end after its limit. */
  overdueMs?: number;
  /** Changes the database that the stores are made on. */
  sql?: (usual: Sql) => Sql;
  /** Changes what makes and finds the executor. */
  provisioner?: (usual: Provisioner) => Provisioner;
  /** Live sessions and executions that a tenant may have. */
  perTenant?: { sessions: number; executions: number };
  apiKeys?: { name: string; key: string }[];
  headers?: Record<string, string>;
};

const CONFIG: HttpConfig = {
  host: "127.0.0.1",
  authMode: "auto",
  allowedHosts: [],
  corsOrigins: [],
  requestsPerMinute: null,
  defaultTimeoutS: 300,
  maxTimeoutS: 3600,
  maxBodyBytes: 4 * 1024 * 1024,
  bodyPatienceMs: 30_000,
  maxFileBytes: 8 * 1024 * 1024,
};

/** Starts it on a free port of loopback, with the seeded templates. */
export async function startApi(options: ApiOptions = {}): Promise<Api> {
  const logged: LogLine[] = [];
  const log = createLog({ level: "info", format: "json", write: (line) => logged.push(JSON.parse(line) as LogLine) });
  const opened = openSqlite(":memory:");
  const sql = options.sql?.(opened) ?? opened;
  const clock = options.clock ?? systemClock;
  const stores = { sessions: new SqlSessionStore(sql), executions: new SqlExecutionStore(sql) };
  const templateStore = new SqlTemplateStore(sql);
  const executor = new FakeExecutor();
  const usual = provisionerOf(executor);
  const provisioner = options.provisioner?.(usual) ?? usual;
  const sessionChanges = new Changes<Session>();
  const executionChanges = new Changes<Execution>();
  const bounds = { idleMs: null, lifetimeMs: null };
  const common = { provisioner, clock, owner: "test" };
  const installer = new DependencyInstaller({ ...common, store: stores.sessions, changes: sessionChanges });
  const scheduler = new Scheduler({
    installer,
    ...stores,
    ...common,
    sessionChanges,
    executionChanges,
    log,
    leaseMs: 15_000,
    overdueMs: options.overdueMs,
    creatingTimeoutMs: 300_000,
    bounds,
    executionEnded: () => {},
    audit: new SqlAuditStore(sql),
    corrected: () => {},
    storeFiles: () => Promise.resolve(),
    sandboxMade: () => {},
    templates: templateStore,
  });
  const sessions = new Sessions({
    installer,
    created: () => {},
    decisions: () => executor.audit(),
    forgetFiles: () => Promise.resolve(),
    ...common,
    store: stores.sessions,
    executions: stores.executions,
    templates: templateStore,
    wakeups: scheduler,
    changes: sessionChanges,
    rules: {
      defaultTimeoutS: 300,
      maxTimeoutS: 3600,
      maxCpu: 4,
      maxMemoryBytes: 8 * 1024 ** 3,
      maxDiskBytes: 50 * 1024 ** 3,
      maxProcesses: 128,
      maxSessionsPerTenant: options.perTenant?.sessions ?? null,
      bounds,
      packageIndexUrl: null,
      checkNetwork: () => {},
      leaseMs: 15_000,
    },
  });
  const executions = new Executions({
    ...common,
    store: stores.executions,
    sessions,
    wakeups: scheduler,
    changes: executionChanges,
    rules: { maxLivePerSession: 72, maxLivePerTenant: options.perTenant?.executions ?? null, leaseMs: 15_000 },
  });
  const templates = new Templates(templateStore, stores.sessions, clock, () => {});
  await templates.seed();
  const deps: ServerDeps = {
    sessions,
    executions,
    workspaces: new Workspaces({ sessions, provisioner, objects: NO_OBJECTS, versions: null, graceMs: 60_000 }),
    templates,
    keys: new Keys({ store: new SqlKeyStore(sql), clock, configured: options.apiKeys ?? [] }),
    vitals: {
      version: "0.0.0",
      uptimeS: () => 1.5,
      unready: () => null,
      checks: () => Promise.resolve([{ name: "database", ok: true, found: "sqlite" }]),
      sync: () => Promise.resolve({}),
    },
    config: { ...CONFIG, ...options.config },
    log,
  };
  Object.assign(deps, options.change?.(deps));
  const server = createServer(deps);
  const { url, port } = server.listen("127.0.0.1", 0);
  return {
    url,
    port,
    client: new Client(url, options.headers ?? {}),
    executor,
    server,
    scheduler,
    deps,
    logged,
    stop: async () => {
      await server.stop(1000);
      await scheduler.stop();
      await sql.close();
    },
  };
}

/** A store that is never used: workspaces stay, and there are no URLs. */
const NO_OBJECTS = { givesUrls: false } as Objects;

function provisionerOf(executor: FakeExecutor): Provisioner {
  return {
    keepsWorkspaces: true,
    checkImage: () => Promise.resolve(),
    ensure: async (session) => ({
      executor,
      sandbox: await executor.createSandbox(session.id, {
        imageUrl: session.image_url,
        runtimeType: session.runtime_type,
        limits: { cpuCores: 1, memoryBytes: 1, diskBytes: 1, maxProcesses: 1 },
        env: {},
        maxRunning: 8,
      }),
      runtimeNode: null,
      containerId: null,
      podName: null,
    }),
    ensureLayer: (_session, request) => executor.ensureLayer(request),
    executorOf: () => Promise.resolve(executor),
    release: (id) => executor.deleteSandbox(id),
    list: async () => new Map((await executor.listSandboxes()).map(({ id, status }) => [id, status])),
  };
}
