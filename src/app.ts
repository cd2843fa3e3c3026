import { statfs } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { Changes } from "./changes.ts";
import { systemClock } from "./clock.ts";
import { isLoopback, type Config } from "./config.ts";
import type { Execution } from "./executions/execution.ts";
import { Executions } from "./executions/executions.ts";
import { AllowList } from "./executor/egress/allow-list.ts";
import { openHome } from "./home.ts";
import { listen } from "./http/listening.ts";
import { createServer } from "./http/server.ts";
import { newRequestId } from "./id.ts";
import { Keys } from "./keys/keys.ts";
import type { Log } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { reportFailures } from "./store-failures.ts";
import { Retention } from "./scheduler/retention.ts";
import { Scheduler } from "./scheduler/scheduler.ts";
import { Upkeep } from "./scheduler/upkeep.ts";
import type { Session } from "./sessions/session.ts";
import { DependencyInstaller } from "./sessions/dependency-installer.ts";
import { Sessions, type SessionRules } from "./sessions/sessions.ts";
import { SqlAuditStore } from "./stores/audit-store.ts";
import { SqlExecutionStore } from "./stores/execution-store.ts";
import { SqlKeyStore } from "./stores/key-store.ts";
import { SqlSessionStore } from "./stores/session-store.ts";
import { SqlTemplateStore } from "./stores/template-store.ts";
import { SqlUpkeepStore } from "./stores/upkeep-store.ts";
import { Templates } from "./templates/templates.ts";
import { VERSION } from "./version.ts";
import { ServiceVitals } from "./vitals.ts";
import { collectStored } from "./workspaces/collect.ts";
import { WorkspaceVersions } from "./workspaces/workspace-versions.ts";
import { Workspaces } from "./workspaces/workspaces.ts";

export type App = {
  /** Base URL, with the port that was bound. */
  url: string;
  /** Resolves when the executor takes work, rejects with why it does not. */
  ready: Promise<void>;
  /**
   * Drains and stops. For `graceMs` milliseconds (0 unless given) it is unready and still serves, so that whoever sends it
   * work can turn to another replica. Then streams are cut, so that their readers reconnect, leases are handed over and
   * answers that are under way go out; calls that wait for something to happen may do so for `waitMs` milliseconds (0
   * unless given). Idempotent.
   */
  stop(drain?: { graceMs: number; waitMs: number }): Promise<void>;
};

/** A lease outlives three missed renewals. */
const LEASE_MS = 15_000;
/** Between the attempts to start an executor that could not be started. */
const RETRY_MS = 2000;
const DRAIN_MS = 10_000;
const TIDY_MS = 3600_000;
/** How long versions of workspaces that are about to be stored may take at a stop. */
const STORE_MS = 5000;
/** How often garbage is collected while a blob is kept for nobody. */
const COLLECTIONS_A_GRACE = 24;

/** Builds the service from its configuration and starts it. Throws ConfigError for what the operator must change. */
export async function startApp(config: Config, log: Log): Promise<App> {
  const opened = await openHome(config, log);
  const home = {
    ...opened,
    sql: reportFailures(opened.sql, () => metrics.storeFailed("database")),
    objects: reportFailures(opened.objects, () => metrics.storeFailed("objects")),
  };
  const { sql, provisioner } = home;
  const clock = systemClock;
  const owner = `${hostname()}-${process.pid}-${newRequestId().slice(0, 8)}`;

  const sessionStore = new SqlSessionStore(sql);
  const audit = new SqlAuditStore(sql);
  const executionStore = new SqlExecutionStore(sql);
  const templateStore = new SqlTemplateStore(sql);
  const keys = new Keys({ store: new SqlKeyStore(sql), clock, configured: config.apiKeys });
  const templates = new Templates(templateStore, sessionStore, clock, checkNetwork);
  const sessionChanges = new Changes<Session>();
  const executionChanges = new Changes<Execution>();

  const metrics = new Metrics({
    activeSessions: () => sessionStore.countLive(),
    liveExecutions: () => executionStore.liveByStatus(),
    ...(home.isEdge ? { disk: () => diskSpace(config.dataDir) } : {}),
    warmPoolSizes: async () =>
      Object.entries((await provisioner.warmSizes?.()) ?? {}).map(([template, size]) => ({ template, size })),
  });
  const bounds = { idleMs: config.idleMs, lifetimeMs: config.lifetimeMs };
  const installer = new DependencyInstaller({
    store: sessionStore,
    provisioner,
    changes: sessionChanges,
    clock,
  });
  const stored = { objects: home.objects, sessions: sessionStore, log, graceMs: config.objectGraceMs };
  const versions = provisioner.keepsWorkspaces ? null : new WorkspaceVersions({ ...stored, provisioner });
  const scheduler = new Scheduler({
    sessions: sessionStore,
    executions: executionStore,
    provisioner,
    sessionChanges,
    executionChanges,
    clock,
    log,
    owner,
    leaseMs: LEASE_MS,
    creatingTimeoutMs: config.creatingTimeoutMs,
    bounds,
    templates: templateStore,
    installer,
    audit,
    sandboxMade: (session, { sandbox }, ms) => {
      metrics.sandboxMade(ms / 1000, sandbox.pool === "hit");
      sessions.sandboxMade(session.id, sandbox.timing);
      if (sandbox.pool === "miss") metrics.warmPoolMissed(session.template_id);
      log.info("sandbox.made", { session_id: session.id, pool: sandbox.pool, ms: Math.round(ms * 100) / 100 });
    },
    corrected: (kind) => metrics.corrected(kind),
    executionEnded: (execution) => {
      metrics.executionEnded(execution, clock.now());
      logEnd(log, execution);
      versions?.mayHaveChanged(execution.session_id);
    },
    storeFiles: async (session) => versions?.storeLast(session),
  });
  const sessions = new Sessions({
    store: sessionStore,
    executions: executionStore,
    templates: templateStore,
    provisioner,
    wakeups: scheduler,
    installer,
    changes: sessionChanges,
    clock,
    rules: sessionRules(config),
    owner,
    // Where no tunnel is needed, the executor decided.
    decisions: async (id) =>
      provisioner.openTunnel === undefined ? (await provisioner.executorOf(id)).audit(id) : audit.list(id),
    forgetFiles: async (session) => versions?.forget(session),
    created: () => metrics.sessionCreated(),
  });
  const executions = new Executions({
    store: executionStore,
    sessions,
    provisioner,
    wakeups: scheduler,
    changes: executionChanges,
    clock,
    rules: {
      maxLivePerSession: config.maxRunningPerSession + config.maxWaitingPerSession,
      maxLivePerTenant: config.maxExecutionsPerTenant,
      leaseMs: LEASE_MS,
    },
    owner,
  });
  const upkeep = new Upkeep({
    store: new SqlUpkeepStore(sql),
    clock,
    log,
    owner,
    pieces: [
      new Retention({
        sessions: sessionStore,
        executions: executionStore,
        provisioner,
        clock,
        elapsedMs: () => performance.now(),
        log,
        sessionMs: config.sessionRetentionMs,
        executionMs: config.executionRetentionMs,
        forget: (id) => sessions.forget(id),
      }),
      {
        name: "garbage",
        everyMs: config.objectGraceMs / COLLECTIONS_A_GRACE,
        run: (signal) => collectStored(stored, signal),
      },
      // After what deletes, since it gives back the disk.
      ...(sql.tidy === undefined ? [] : [{ name: "database", everyMs: TIDY_MS, run: sql.tidy.bind(sql) }]),
    ],
  });
  const vitals = new ServiceVitals({ version: VERSION, home, scheduler });
  const server = createServer({
    sessions,
    executions,
    workspaces: new Workspaces({ ...stored, sessions, provisioner, versions }),
    templates,
    keys,
    vitals,
    config,
    log,
    metrics,
  });

  await templates.seed();
  // Whoever held a lease is dead then, so its work goes on now and not when the lease runs out.
  if (home.isAlone) await Promise.all([sessionStore.releaseAll(null), executionStore.releaseAll(null)]);
  const { url, port } = listen((host, port) => server.listen(host, port), config);
  // Not before: a first key is shown once, and a start that is refused may have nobody who reads it.
  await sayAccess(config, keys, log);
  log.info("server.listening", { url, version: VERSION, data_dir: config.dataDir, pid: process.pid, port });
  let stopping: Promise<void> | null = null;
  /** What keeps an executor from starting may be mended without a restart of this process. */
  const untilReady = async (): Promise<void> => {
    for (;;) {
      await delay(RETRY_MS, undefined, { ref: false });
      const isReady = await home.ready().then(
        () => true,
        () => false,
      );
      if (stopping !== null) return;
      if (!isReady) continue;
      vitals.state = null;
      return log.info("executor.started");
    }
  };
  const ready = home.ready().then(
    () => {
      if (stopping !== null) return;
      scheduler.start();
      upkeep.start();
      void versions?.catchUp();
      vitals.state = null;
    },
    (error: unknown) => {
      if (stopping !== null) throw error;
      scheduler.start();
      upkeep.start();
      vitals.state = "the executor could not be started";
      log.error("executor.not_started", { error });
      void untilReady();
      throw error;
    },
  );
  // Not every caller waits for it, and its failure has been logged.
  ready.catch(() => {});

  const stop = async ({ graceMs, waitMs } = { graceMs: 0, waitMs: 0 }): Promise<void> => {
    vitals.state = "draining";
    log.info("server.draining", { grace_ms: graceMs });
    scheduler.drain();
    server.drain();
    if (graceMs > 0) await delay(graceMs);
    await Promise.all([server.stop(DRAIN_MS, waitMs), scheduler.handOver(), upkeep.stop()]);
    await scheduler.stop();
    await versions?.stop(STORE_MS);
    await home.close();
    log.info("server.stopped");
  };
  return { url, ready, stop: (drain) => (stopping ??= stop(drain)) };
}

function checkNetwork(rules: readonly string[]): void {
  void new AllowList(rules);
}

function sessionRules(config: Config): SessionRules {
  return {
    defaultTimeoutS: config.defaultTimeoutS,
    maxTimeoutS: config.maxTimeoutS,
    maxCpu: config.maxCpu,
    maxMemoryBytes: config.maxMemoryBytes,
    maxDiskBytes: config.maxDiskBytes,
    maxProcesses: config.maxProcesses,
    maxSessionsPerTenant: config.maxSessionsPerTenant,
    bounds: { idleMs: config.idleMs, lifetimeMs: config.lifetimeMs },
    packageIndexUrl: config.packageIndexUrl,
    checkNetwork,
    leaseMs: LEASE_MS,
  };
}

/** Beyond loopback a key is required: with none at all the first start makes one and shows it once. */
async function sayAccess(config: Config, keys: Keys, log: Log): Promise<void> {
  if (config.authMode === "none") return log.warn("access.open", { because: "AUTH_MODE=none" });
  if (isLoopback(config.host)) return;
  const first = await keys.makeFirst();
  if (first !== null)
    log.warn("access.first_key", { key: first, note: "shown this once; revoke it with: sandbox keys revoke first" });
}

async function diskSpace(path: string): Promise<{ free: number; size: number }> {
  const { bavail, blocks, bsize } = await statfs(path);
  return { free: bavail * bsize, size: blocks * bsize };
}

function logEnd(log: Log, execution: Execution): void {
  log.info("execution.ended", {
    execution_id: execution.id,
    session_id: execution.session_id,
    language: execution.language,
    status: execution.status,
    reason: execution.reason,
    duration_ms: execution.metrics?.duration_ms ?? null,
  });
}
