import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { EgressDecision } from "../protocol.ts";

const MAX_BYTES = 1024 * 1024;

/** What the proxies decided, a file of JSON lines for each sandbox. Past 1 MB the older half is dropped. */
export class AuditLogs {
  readonly #dir: string;

  constructor(dataDir: string) {
    this.#dir = join(dataDir, "audit");
  }

  /** Throws what the disk throws. */
  append(sandboxId: string, decision: EgressDecision): void {
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    const path = this.#path(sandboxId);
    appendFileSync(path, `${JSON.stringify(decision)}\n`, { mode: 0o600 });
    if (statSync(path).size > MAX_BYTES) dropOlderHalf(path);
  }

  /** Newest first; empty when nothing was ever decided. */
  read(sandboxId: string): EgressDecision[] {
    const path = this.#path(sandboxId);
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, "utf8").split("\n");
    return lines.flatMap(parseLine).toReversed();
  }

  remove(sandboxId: string): void {
    rmSync(this.#path(sandboxId), { force: true });
  }

  #path(sandboxId: string): string {
    return join(this.#dir, `${sandboxId}.ndjson`);
  }
}

function dropOlderHalf(path: string): void {
  const text = readFileSync(path, "utf8");
  const cut = text.indexOf("\n", Math.floor(text.length / 2)) + 1;
  writeFileSync(`${path}.new`, text.slice(cut), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Nothing for a line that a full disk or a crash cut. */
function parseLine(line: string): EgressDecision[] {
  try {
    return line === "" ? [] : [JSON.parse(line) as EgressDecision];
  } catch {
    return [];
  }
}
