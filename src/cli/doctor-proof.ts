import { join } from "node:path";
import { HOSTILE_PROGRAMS, Prover, type Verdict } from "../prove/prover.ts";
import { startEmbedded } from "./embedded-service.ts";

export type Proof = { ok: boolean; held: number; broken: number; verdicts: Verdict[] };

export const PROOF_PROGRAMS = HOSTILE_PROGRAMS.length;

/** Attacks the sandboxes of a service of its own with every hostile program; `show` gets each verdict as it falls. */
export async function prove(show: (verdict: Verdict) => void): Promise<Proof> {
  const service = await startEmbedded();
  const pid = Number(await Bun.file(join(service.dataDir, "executor/pid")).text());
  const prover = new Prover({ url: service.url, key: service.key, dataDir: service.dataDir, executorPid: pid });
  try {
    await prover.open();
    const verdicts: Verdict[] = [];
    for (const program of HOSTILE_PROGRAMS) {
      const verdict = await prover.prove(program);
      verdicts.push(verdict);
      show(verdict);
    }
    const held = verdicts.filter((verdict) => verdict.held).length;
    return { ok: held === verdicts.length, held, broken: verdicts.length - held, verdicts };
  } finally {
    await prover.close();
    await service.stop();
  }
}
