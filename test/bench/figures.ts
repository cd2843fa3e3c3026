import { cpus, totalmem } from "node:os";

/** Samples of one measure, in milliseconds unless the name says otherwise. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

/** What the figures were measured on. */
export async function machine(): Promise<string> {
  const kernel = (await Bun.file("/proc/version").text()).split(" ")[2] ?? "?";
  const model = cpus()[0]?.model.trim() ?? "?";
  return `${cpus().length} cores (${model}), ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${kernel}, Bun ${Bun.version}`;
}

/** Prints one row: the figure, what was aimed for and whether it was met. */
export function report(
  name: string,
  value: number,
  unit: string,
  target: { most?: number; least?: number } = {},
): void {
  const aim = target.most !== undefined ? `≤ ${target.most}` : target.least !== undefined ? `≥ ${target.least}` : "";
  const met =
    (target.most === undefined || value <= target.most) && (target.least === undefined || value >= target.least);
  const shown = value >= 100 ? value.toFixed(0) : value.toFixed(2);
  console.log(
    `${name.padEnd(58)} ${shown.padStart(9)} ${unit.padEnd(6)} ${aim.padEnd(8)} ${aim === "" ? "" : met ? "met" : "MISSED"}`,
  );
}

export function reportLatency(name: string, samples: number[], p50?: number, p99?: number): void {
  report(`${name}, p50`, quantile(samples, 0.5), "ms", p50 === undefined ? {} : { most: p50 });
  report(`${name}, p99`, quantile(samples, 0.99), "ms", p99 === undefined ? {} : { most: p99 });
}

/** Calls `once` `count` times after `warmup` calls that do not count; milliseconds of each. */
export async function sample(count: number, warmup: number, once: (i: number) => Promise<void>): Promise<number[]> {
  const samples: number[] = [];
  for (let i = -warmup; i < count; i++) {
    const start = performance.now();
    await once(i);
    if (i >= 0) samples.push(performance.now() - start);
  }
  return samples;
}
