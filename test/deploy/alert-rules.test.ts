import { describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { prometheusMissing } from "../services.ts";
import { alertRules, JOB, promtool } from "./monitoring.ts";

/** What a service reports, a value a minute, that has each alert fire within half an hour; `x` repeats a step. */
const FIRES: Record<string, Record<string, string>> = {
  SandboxTargetDown: { [`up{job="${JOB}"}`]: "1 0x30" },
  SandboxAbsent: { "up{job=\"else\"}": "1x30" },
  SandboxExecutionsCrashed: { 'sandbox_executions_total{language="python",status="crashed"}': "0x20 1x10" },
  SandboxLeasesExpired: { 'sandbox_corrections_total{kind="lease_expired"}': "0x20 1x10" },
  SandboxSandboxesRemade: { 'sandbox_corrections_total{kind="sandbox_remade"}': "0+1x30" },
  SandboxSandboxesOrphaned: { 'sandbox_corrections_total{kind="orphan_released"}': "0+1x30" },
  SandboxWarmPoolMisses: { 'sandbox_warm_pool_misses_total{template="t"}': "0+1x30" },
  SandboxStoreErrors: { 'sandbox_store_errors_total{store="database"}': "0+1x30" },
  SandboxQueueLong: { 'sandbox_executions_live{status="pending"}': "51x30" },
  SandboxServerErrors: {
    'sandbox_http_request_duration_seconds_count{status="200"}': "0+98x30",
    'sandbox_http_request_duration_seconds_count{status="503"}': "0+2x30",
  },
  SandboxDiskLow: { 'sandbox_disk_bytes{kind="free"}': "9x30", 'sandbox_disk_bytes{kind="size"}': "100x30" },
};
/** The same of a service that is well: none fires, though some have happened. */
const QUIET: Record<string, string> = {
  [`up{job="${JOB}"}`]: "1x30",
  'sandbox_executions_total{language="python",status="crashed"}': "3x30",
  'sandbox_executions_total{language="python",status="failed"}': "0+9x30",
  'sandbox_corrections_total{kind="lease_expired"}': "4x30",
  'sandbox_corrections_total{kind="sandbox_remade"}': "0x20 5x10",
  'sandbox_corrections_total{kind="orphan_released"}': "0x20 5x10",
  'sandbox_warm_pool_misses_total{template="t"}': "0x20 5x10",
  // A scrape during a restart of the database, after which all is well.
  'sandbox_store_errors_total{store="database"}': "0x23 3x1",
  'sandbox_executions_live{status="pending"}': "50x30",
  'sandbox_http_request_duration_seconds_count{status="200"}': "0+999x30",
  'sandbox_http_request_duration_seconds_count{status="503"}': "0+1x30",
  'sandbox_disk_bytes{kind="free"}': "11x30",
  'sandbox_disk_bytes{kind="size"}': "100x30",
};

type Expected = { eval_time: string; alertname: string; exp_alerts: object[] };

function unit(series: Record<string, string>, expected: Expected[]): object {
  const input = Object.entries(series).map(([name, values]) => ({ series: name, values }));
  return { interval: "1m", input_series: input, alert_rule_test: expected };
}

describe.skipIf(prometheusMissing !== null)(prometheusMissing ?? "the alert rules", () => {
  /** What promtool has against the rules with these units; null when they hold. */
  async function checked(units: object[]): Promise<string | null> {
    const directory = await mkdtemp("/tmp/alert-rules-");
    try {
      await Bun.write(join(directory, "rules.yaml"), JSON.stringify(await alertRules()));
      await Bun.write(
        join(directory, "test.yaml"),
        JSON.stringify({ rule_files: ["rules.yaml"], evaluation_interval: "1m", tests: units }),
      );
      return (
        (await promtool("check", "rules", join(directory, "rules.yaml"))) ??
        (await promtool("test", "rules", join(directory, "test.yaml")))
      );
    } finally {
      await rm(directory, { recursive: true });
    }
  }

  test("are valid, and none fires for a service that is well", async () => {
    const { groups } = await alertRules();
    const alerts = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
    expect(alerts.toSorted()).toEqual(Object.keys(FIRES).toSorted());
    const none = alerts.map((alertname) => ({ eval_time: "25m", alertname, exp_alerts: [] }));
    expect(await checked([unit(QUIET, none)])).toBeNull();
  });

  // promtool wants labels and texts word for word, which the rules alone should say: so it must object to "none fires".
  test.each(Object.entries(FIRES))("%s fires", async (alertname, series) => {
    const said = await checked([unit(series, [{ eval_time: "28m", alertname, exp_alerts: [] }])]);
    expect(said).toMatch(/exp:\s*\[\s*\]/);
    expect(said).toContain(`alertname="${alertname}"`);
    expect(said).not.toContain("<error");
    expect(said).not.toContain("no value");
  });
});
