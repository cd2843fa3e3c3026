import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Execution } from "./executions/execution.ts";

/** Seconds: from 1 ms, where a warm Python handler ends, to an hour, the longest execution. */
const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600];
const START_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** What is asked for only when a scrape comes. */
export type MetricSources = {
  activeSessions(): Promise<number>;
  warmPoolSizes(): Promise<{ template: string; size: number }[]>;
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
  readonly #http = this.#histogram(
    "sandbox_http_request_duration_seconds",
    "Time to answer requests, by route; streams until they close.",
    ["method", "route", "status"],
    DURATION_BUCKETS,
  );
  readonly #streams: Gauge;

  constructor(sources: MetricSources) {
    collectDefaultMetrics({ register: this.#registry });
    this.#streams = new Gauge({
      name: "sandbox_stream_clients",
      help: "Open event streams.",
      registers: [this.#registry],
    });
    new Gauge({
      name: "sandbox_sessions_active",
      help: "Sessions that are creating or running.",
      registers: [this.#registry],
      async collect(): Promise<void> {
        this.set(await sources.activeSessions());
      },
    });
    new Gauge({
      name: "sandbox_warm_pool_size",
      help: "Warm sandboxes ready to be claimed, by template.",
      labelNames: ["template"],
      registers: [this.#registry],
      async collect(): Promise<void> {
        this.reset();
        for (const { template, size } of await sources.warmPoolSizes()) this.set({ template }, size);
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
