import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Execution } from "./executions/execution.ts";
import { LANGUAGES } from "./executor/protocol.ts";
import { CORRECTIONS, type Correction } from "./scheduler/scheduler.ts";
import { within } from "./within.ts";

/** Seconds: from 1 ms, where a warm Python handler ends, to an hour, the longest execution. */
const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600];
const START_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** How long a scrape waits for one of its sources, in milliseconds. */
const SOURCE_MS = 2000;
const ENDS = ["completed", "failed", "timeout", "crashed", "cancelled"] as const;
const STORES = ["database", "objects"] as const;

/** What is asked for only when a scrape comes. A figure that can't be told then is left out, and the others are there. */
export type MetricSources = {
  activeSessions(): Promise<number>;
  liveExecutions(): Promise<Record<"pending" | "running", number>>;
  warmPoolSizes(): Promise<{ template: string; size: number }[]>;
  /** Bytes of the file system of the data directory; absent where there is none. */
  disk?: () => Promise<{ free: number; size: number }>;
};

/** The service's figures for Prometheus (contract, Health and operation). Labels are from closed lists or template ids. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #sessions = this.#counter("sandbox_sessions_total", "Sessions that were created.", []);
  readonly #executions = this.#counter(
    "sandbox_executions_total",
    "Executions that ended, by language and final status.",
    ["language", "status"],
  );
  readonly #duration = this.#histogram(
    "sandbox_execution_duration_seconds",
    "Run time of executions.",
    ["language"],
    DURATION_BUCKETS,
  );
  readonly #overhead = this.#histogram(
    "sandbox_execution_overhead_seconds",
    "Time from submission to the stored end, less the run time.",
    ["language"],
    DURATION_BUCKETS,
  );
  readonly #cold = this.#histogram(
    "sandbox_cold_start_duration_seconds",
    "Time to make a sandbox for a session.",
    [],
    START_BUCKETS,
  );
  readonly #warm = this.#histogram(
    "sandbox_warm_start_duration_seconds",
    "Time to claim a warm sandbox for a session.",
    [],
    START_BUCKETS,
  );
  readonly #misses = this.#counter(
    "sandbox_warm_pool_misses_total",
    "Sessions of templates with a warm pool that found it empty.",
    ["template"],
  );
  readonly #storeErrors = this.#counter(
    "sandbox_store_errors_total",
    "Calls of the database or the object store that failed.",
    ["store"],
  );
  readonly #corrections = this.#counter(
    "sandbox_corrections_total",
    "What the scheduler found other than the rows say and put right: leases that ran out, lost and orphaned sandboxes.",
    ["kind"],
  );
  readonly #http = this.#histogram(
    "sandbox_http_request_duration_seconds",
    "Time to answer requests, by route; streams until they close.",
    ["method", "route", "status"],
    DURATION_BUCKETS,
  );
  readonly #streams: Gauge;

  constructor(sources: MetricSources) {
    collectDefaultMetrics({ register: this.#registry });
    this.#streams = this.#gauge("sandbox_stream_clients", "Open event streams.", []);
    this.#asked("sandbox_sessions_active", "Sessions that are creating or running.", [], async (gauge) =>
      gauge.set(await sources.activeSessions()),
    );
    const live = "Executions that wait (pending) or run, of the whole service.";
    this.#asked("sandbox_executions_live", live, ["status"], async (gauge) => {
      for (const [status, count] of Object.entries(await sources.liveExecutions())) gauge.set({ status }, count);
    });
    const ready = "Warm sandboxes ready to be claimed, by template.";
    this.#asked("sandbox_warm_pool_size", ready, ["template"], async (gauge) => {
      for (const { template, size } of await sources.warmPoolSizes()) {
        gauge.set({ template }, size);
        this.#misses.inc({ template }, 0);
      }
    });
    const { disk } = sources;
    if (disk !== undefined) {
      const bytes = "Bytes of the file system that holds the data directory: free for the service, and in all.";
      this.#asked("sandbox_disk_bytes", bytes, ["kind"], async (gauge) => {
        for (const [kind, count] of Object.entries(await disk())) gauge.set({ kind }, count);
      });
    }
    this.#startAtZero();
  }

  /** A counter that first appears with 1 has no increase that Prometheus could see. */
  #startAtZero(): void {
    for (const language of LANGUAGES) for (const status of ENDS) this.#executions.inc({ language, status }, 0);
    for (const store of STORES) this.#storeErrors.inc({ store }, 0);
    for (const kind of CORRECTIONS) this.#corrections.inc({ kind }, 0);
  }

  #gauge<L extends string>(name: string, help: string, labelNames: L[]): Gauge<L> {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] });
  }

  /** A gauge that `fill` sets at every scrape. */
  #asked<L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    fill: (gauge: Gauge<L>) => Promise<void>,
  ): void {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      async collect(): Promise<void> {
        this.reset();
        if (labelNames.length === 0) this.remove();
        // Left out, see MetricSources.
        await within(SOURCE_MS, fill(this)).catch(() => {});
      },
    });
  }

  #counter<L extends string>(name: string, help: string, labelNames: L[]): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  #histogram<L extends string>(name: string, help: string, labelNames: L[], buckets: number[]): Histogram<L> {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.#registry] });
  }

  sessionCreated(): void {
    this.#sessions.inc();
  }

  executionEnded(execution: Execution, now: Date): void {
    const { language, status, execution_time: runS } = execution;
    this.#executions.inc({ language, status });
    if (runS === null) return;
    this.#duration.observe({ language }, runS);
    this.#overhead.observe({ language }, Math.max(0, (now.getTime() - Date.parse(execution.created_at)) / 1000 - runS));
  }

  sandboxMade(seconds: number, warm: boolean): void {
    (warm ? this.#warm : this.#cold).observe(seconds);
  }

  warmPoolMissed(template: string): void {
    this.#misses.inc({ template });
  }

  storeFailed(store: (typeof STORES)[number]): void {
    this.#storeErrors.inc({ store });
  }

  corrected(kind: Correction): void {
    this.#corrections.inc({ kind });
  }

  /** `route` is the pattern (`/api/v1/sessions/:id`), never the path of a request. */
  request(method: string, route: string, status: number, seconds: number): void {
    this.#http.observe({ method, route, status: String(status) }, seconds);
  }

  /** Open event streams: one more (1) or one less (-1). */
  streamClients(change: 1 | -1): void {
    this.#streams.inc(change);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The exposition text. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
