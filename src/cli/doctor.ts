import { loadConfig, takeFlags, type Config } from "../config.ts";
import type { Verdict as ProofVerdict } from "../prove/prover.ts";
import { VERSION } from "../version.ts";
import type { Finding } from "./doctor-finding.ts";
import { bubblewrap, installer, kernel, namespaces, python, sandbox, shell } from "./doctor-machine.ts";
import { prove, PROOF_PROGRAMS, type Proof } from "./doctor-proof.ts";
import { clock, database, objectStore, type ClockLeads } from "./doctor-services.ts";
import { keepsHere } from "../home.ts";
import { dataDirectory, disk } from "./doctor-storage.ts";
import { UsageError } from "./usage-error.ts";

const HELP = `sandbox doctor: checks what the service would find here with these settings, by trying it

Usage: sandbox doctor [--json] [--prove] [--data-dir DIR]

It takes the settings of sandbox serve, as flags or variables: MariaDB, an object store and a cluster are looked at when they
are configured, this machine's jails when sandboxes run here. Nothing is left behind.

  --json    one JSON document instead of lines
  --prove   also start a service for this alone and attack its sandboxes with ${PROOF_PROGRAMS} hostile programs

Exit code: 0 when everything that is required is there (and no attack succeeded), 1 when not, 2 when used wrongly.
`;

/** What is looked at, in this order; each tries the thing itself. */
const LOOKS: readonly {
  /** Which configurations call for it; all unless given. */
  when?: (config: Config) => boolean;
  look: (config: Config, leads: ClockLeads) => Finding | Finding[] | Promise<Finding | Finding[]>;
}[] = [
  { look: kernel, when: runsHere },
  { look: bubblewrap, when: runsHere },
  { look: namespaces, when: runsHere },
  { look: (config) => sandbox(config.sandboxUidBase), when: runsHere },
  { look: python, when: runsHere },
  { look: installer, when: runsHere },
  { look: shell, when: runsHere },
  { look: (config) => dataDirectory(config.dataDir), when: keepsHere },
  { look: (config) => disk(config.dataDir), when: keepsHere },
  { look: database },
  { look: objectStore },
  {
    look: async (config, leads) => (await import("./doctor-cluster.ts")).cluster(config, leads),
    when: (c) => !runsHere(c),
  },
  { look: (_, leads) => clock(leads) },
];

function runsHere(config: Config): boolean {
  return config.provisioner === "local";
}

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
  if (rest.includes("--prove") && !runsHere(config))
    throw new UsageError("--prove attacks the jails of this machine, and with PROVISIONER=kubernetes there are none");
  const checks: Finding[] = [];
  const leads: ClockLeads = new Map();
  for (const { look, when } of LOOKS) {
    if (when?.(config) === false) continue;
    const found = [await look(config, leads)].flat();
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
