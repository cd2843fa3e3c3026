import { join } from "node:path";
import { loadConfig, takeFlags } from "../config.ts";
import { HOSTILE_PROGRAMS, Prover } from "../prove/prover.ts";
import { findings, type Finding } from "./doctor-checks.ts";
import { startEmbedded } from "./embedded-service.ts";
import { UsageError } from "./usage-error.ts";

const HELP = `sandbox doctor: checks what this machine offers

Usage: sandbox doctor [--json] [--prove] [--data-dir DIR]

  --json    one JSON document instead of lines
  --prove   also start a service for itself and attack its sandboxes with ${HOSTILE_PROGRAMS.length} hostile programs

Exit code: 0 when everything that is required is there (and no attack succeeded), else 1.
`;

/** `sandbox doctor`. Throws UsageError and ConfigError. */
export async function doctorCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  if (rest.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  const unknown = rest.find((word) => word !== "--json" && word !== "--prove");
  if (unknown !== undefined) throw new UsageError(`there is no option ${unknown}; see sandbox doctor --help`);
  const asJson = rest.includes("--json");
  const found = await findings(loadConfig(process.env, flags).dataDir);
  const isHealthy = found.every((one) => one.ok || !one.required);
  if (asJson && !rest.includes("--prove"))
    process.stdout.write(`${JSON.stringify({ ok: isHealthy, checks: found }, null, 2)}\n`);
  if (!asJson) process.stdout.write(found.map(line).join(""));
  if (!rest.includes("--prove")) return isHealthy ? 0 : 1;
  if (!isHealthy) return 1;
  return (await prove(asJson)) ? 0 : 1;
}

function line({ name, ok, required, found, remedy }: Finding): string {
  const verdict = ok ? "ok" : required ? "MISSING" : "weaker";
  return `${verdict.padEnd(8)} ${name.padEnd(16)} ${found}\n${remedy === undefined ? "" : `${" ".repeat(26)}→ ${remedy}\n`}`;
}

/** True when every property held. */
async function prove(asJson: boolean): Promise<boolean> {
  const service = await startEmbedded();
  const pid = Number(await Bun.file(join(service.dataDir, "executor/pid")).text());
  const prover = new Prover({ url: service.url, key: service.key, dataDir: service.dataDir, executorPid: pid });
  try {
    await prover.open();
    const verdicts = [];
    for (const program of HOSTILE_PROGRAMS) {
      const verdict = await prover.prove(program);
      verdicts.push(verdict);
      const shown = `${verdict.held ? "held" : "BROKEN"}  ${verdict.group.padEnd(13)} ${verdict.name.padEnd(28)} ${verdict.property}`;
      if (!asJson) process.stdout.write(`${shown}${verdict.held ? "" : `\n        ${verdict.detail}`}\n`);
    }
    const broken = verdicts.filter((verdict) => !verdict.held).length;
    if (asJson) process.stdout.write(`${JSON.stringify({ ok: broken === 0, verdicts }, null, 2)}\n`);
    else process.stdout.write(`${verdicts.length - broken} held, ${broken} broken\n`);
    return broken === 0;
  } finally {
    await prover.close();
    await service.stop();
  }
}
