import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { launchPlan, zygoteCommand, type SandboxPaths } from "../../src/executor/languages/launch.ts";
import { rawJson } from "../../src/json-text.ts";
import type { Outcome, RunProgram } from "./programs/program.ts";

const LANGUAGES = join(import.meta.dir, "../../src/executor/languages");

/** Runs Python programs without a sandbox, with any interpreter of this machine: harness.py plays init. */
export class Direct {
  readonly #workspace = mkdtempSync("/tmp/languages-");
  readonly #paths: SandboxPaths;
  readonly #harness = Bun.spawn(["/usr/bin/python3", "-B", join(import.meta.dir, "harness.py")], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  readonly #answers: AsyncIterator<string>;

  constructor(python: string, layers: readonly string[] = []) {
    this.#paths = {
      runtime: LANGUAGES,
      workspace: this.#workspace,
      python,
      shell: "/bin/bash",
      layersDir: "/.layers",
      layers,
    };
    this.#answers = lines(this.#harness.stdout);
  }

  /** Its pid. */
  async startZygote(preload: readonly string[] = []): Promise<number> {
    const { pid } = (await this.#ask({ zygote: zygoteCommand(preload, this.#paths) })) as { pid: number };
    return pid;
  }

  /** The process that plays init: the parent of the zygote and of all that it forks. */
  get initPid(): number {
    return this.#harness.pid;
  }

  readonly run: RunProgram = async ({ language, code, event, stdin, env, timeout }) => {
    const request = {
      language,
      code,
      event: event === undefined ? null : rawJson(event),
      timeoutMs: (timeout ?? 30) * 1000,
    };
    const plan = launchPlan(request, env ?? {}, this.#paths);
    const base64 = (bytes: Uint8Array | string | null | undefined): string =>
      Buffer.from(bytes ?? "").toString("base64");
    const job = base64(plan.job);
    const answer = await this.#ask({ run: { ...plan, job, stdin: base64(stdin), timeout_s: timeout ?? 30 } });
    return outcome(answer as HarnessAnswer);
  };

  async stop(): Promise<void> {
    await this.#harness.stdin.end();
    await this.#harness.exited;
    rmSync(this.#workspace, { recursive: true, force: true });
  }

  async #ask(request: unknown): Promise<unknown> {
    void this.#harness.stdin.write(`${JSON.stringify(request)}\n`);
    await this.#harness.stdin.flush();
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error("the harness ended");
    return JSON.parse(value);
  }
}

type HarnessAnswer = { status: number; stdout: string; stderr: string; result: string; timeout: boolean };

/** Told as the executor tells it, as far as the table looks. */
function outcome(answer: HarnessAnswer): Outcome {
  const text = (base64: string): string => Buffer.from(base64, "base64").toString();
  const signal = answer.status & 0x7f;
  const code = signal === 0 ? answer.status >> 8 : 128 + signal;
  const result = answer.result === "" ? {} : (JSON.parse(text(answer.result)) as Record<string, any>); // oxlint-disable-line typescript/no-explicit-any -- what the runner wrote
  const error = result["error"] as { kind: string; message: string } | undefined;
  const own = error?.kind ?? (signal === 0 ? "exit_code" : "signal");
  return {
    status: answer.timeout ? "timeout" : code === 0 ? "completed" : "failed",
    exit_code: answer.timeout ? 124 : code,
    reason: answer.timeout ? "timeout" : code === 0 ? null : own,
    error_message: error?.message ?? null,
    stdout: text(answer.stdout),
    stderr: text(answer.stderr),
    return_value: result["return_value"] ?? null,
  };
}

async function* lines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
}
