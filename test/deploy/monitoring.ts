import { join } from "node:path";
import { Prometheus } from "../services.ts";

const EXTRAS = join(import.meta.dir, "../../deploy/k8s/extras");

export const JOB = "sandbox-control-plane";

export type Rule = { alert: string; expr: string; for?: string; annotations: Record<string, string> };
export type Rules = { groups: { name: string; rules: Rule[] }[] };

async function yamlOf(file: string): Promise<unknown> {
  return Bun.YAML.parse(await Bun.file(join(EXTRAS, file)).text());
}

/** What the PrometheusRule hands to Prometheus. */
export async function alertRules(): Promise<Rules> {
  return ((await yamlOf("prometheus-rules.yaml")) as { spec: Rules }).spec;
}

/** Every query of the dashboard with its panel's title, over `interval` where Grafana would put one of its own. */
export async function dashboardQueries(interval: string): Promise<[title: string, expression: string][]> {
  const { data } = (await yamlOf("grafana-dashboard.yaml")) as { data: Record<string, string> };
  const { panels } = JSON.parse(data["sandbox.json"] ?? "") as { panels: Panel[] };
  return panels.flatMap(({ title, targets }) =>
    targets.map(({ expr }): [string, string] => [title, expr.replaceAll("$__rate_interval", interval)]),
  );
}

type Panel = { title: string; targets: { expr: string }[] };

/** An alert's expression without the comparison that it ends with: what there is a value of, alert or not. */
export function comparedValue({ alert, expr }: Rule): string {
  const value = /^(.*?)\s*(?:>|<|==)\s*[\d.]+$/s.exec(expr)?.[1];
  if (value === undefined) throw new Error(`${alert} ends with no comparison`);
  return value;
}

/** The labels by which an expression groups. */
export function groupedBy(expression: string): string[] {
  return [...expression.matchAll(/\bby\s*\(([^)]*)\)/g)].flatMap(([, names = ""]) => names.split(",").map((one) => one.trim()));
}

/** Runs promtool; its output when it fails, null when all is well. */
export async function promtool(...argv: string[]): Promise<string | null> {
  const child = Bun.spawn([Prometheus.tool, ...argv], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return code === 0 ? null : out + err;
}
