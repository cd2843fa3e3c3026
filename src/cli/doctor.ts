import { loadConfig, takeFlags, type Config } from "../config.ts";
import type { Verdict as ProofVerdict } from "../prove/prover.ts";
import { VERSION } from "../version.ts";
import type { Finding } from "./doctor-finding.ts";
import { bubblewrap, installer, kernel, namespaces, python, sandbox, shell } from "./doctor-machine.ts";
import { prove, PROOF_PROGRAMS, type Proof } from "./doctor-proof.ts";
import { dataDirectory, disk } from "./doctor-storage.ts";
import { UsageError } from "./usage-error.ts";

const HELP = `sandbox doctor: checks what this machine offers, by trying it

Usage: sandbox doctor [--json] [--prove] [--data-dir DIR]

  --json    one JSON document instead of lines
  --prove   also start a service for this alone and attack its sandboxes with ${PROOF_PROGRAMS} hostile programs

Exit code: 0 when everything that is required is there (and no attack succeeded), 1 when not, 2 when used wrongly.
`;

/** What is looked at, in this order; each tries the thing itself. */
const LOOKS: readonly ((config: Config) => Finding | Finding[] | Promise<Finding | Finding[]>)[] = [
  kernel,
  bubblewrap,
  namespaces,
  (config) => sandbox(config.sandboxUidBase),
  python,
  installer,
  shell,
  (config) => dataDirectory(config.dataDir),
  (config) => disk(config.dataDir),
];

/** `sandbox doctor`. Throws UsageError and ConfigError, and AppError when the service to attack does not start. */
export async function doctorCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  if (rest.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  const unknown = rest.find((word) => word !== "--json" && word !== "--prove");
  if (unknown !== undefined) throw new UsageError(`there is no option ${unknown}; see sandbox doctor --help`);
  const say = rest.includes("--json") ? () => {} : (text: string) => void process.stdout.write(text);

  const config = loadConfig(process.env, flags);
  const checks: Finding[] = [];
  for (const look of LOOKS) {
    const found = [await look(config)].flat();
    checks.push(...found);
    say(found.map(findingText).join(""));
  }
  const lacking = checks.filter(({ verdict }) => verdict === "missing").length;
  say(lacking === 0 ? "" : `${lacking} of what is required ${lacking === 1 ? "is" : "are"} missing\n`);

  let proof: Proof | null = null;
  if (lacking === 0 && rest.includes("--prove")) {
    proof = await prove((verdict) => say(proofText(verdict)));
    say(`${proof.held} held, ${proof.broken} broken\n`);
  }
  const isWell = lacking === 0 && proof?.ok !== false;
  if (rest.includes("--json"))
    process.stdout.write(`${JSON.stringify({ ok: isWell, version: VERSION, checks, proof }, null, 2)}\n`);
  return isWell ? 0 : 1;
}

const SHOWN = { ok: "ok", weaker: "weaker", missing: "MISSING" } as const;

function findingText({ name, verdict, found, remedy }: Finding): string {
  const line = `${SHOWN[verdict].padEnd(8)}${name.padEnd(19)}${found}\n`;
  return remedy === undefined ? line : `${line}${" ".repeat(27)}→ ${remedy}\n`;
}

function proofText({ held, group, name, property, detail }: ProofVerdict): string {
  const line = `${held ? "held" : "BROKEN"}  ${group.padEnd(13)} ${name.padEnd(28)} ${property}\n`;
  return held ? line : `${line}        ${detail}\n`;
}
