import { mkdtemp, rm } from "node:fs/promises";
import { openDataDirectory } from "../../src/data-directory.ts";
import { HttpExecutor } from "../../src/executor/client.ts";
import type { ExecutionRequest, Language, Outcome, OutputPayload, SandboxSpec } from "../../src/executor/protocol.ts";
import { BwrapJail } from "../../src/executor/jail/bwrap.ts";
import { startExecutor, type ExecutorOptions, type StartedExecutor } from "../../src/executor/start.ts";
import { createLog } from "../../src/log.ts";

export type Entry = { seq: number; type: string; json: Record<string, unknown> };
export type Ran = { entries: Entry[]; outcome: Outcome; stdout: string; stderr: string; returned: unknown };

export const SPEC: SandboxSpec = {
  imageUrl: "sandbox-template-python-basic:v1",
  runtimeType: "python3.11",
  limits: { cpuCores: 1, memoryBytes: 512 * 1024 ** 2, diskBytes: 1024 ** 3, maxProcesses: 128 },
  env: {},
  maxRunning: 8,
};

/** An executor in this process with a data directory and real jails, spoken to over its socket. */
export class TestExecutor {
  readonly client: HttpExecutor;
  readonly dataDir: string;
  readonly executor: StartedExecutor;
  readonly log: string[];
  #count = 0;

  static async start(options: Partial<ExecutorOptions> = {}): Promise<TestExecutor> {
    const dataDir = await mkdtemp("/tmp/sandbox-test-");
    const directory = openDataDirectory(dataDir);
    const lines: string[] = [];
    const log = createLog({ level: "debug", format: "text", write: (line) => void lines.push(line) });
    const executor = await startExecutor({
      dataDir,
      journalsDir: directory.journals,
      listen: { unix: `${directory.executor}/socket` },
      token: null,
      jail: await BwrapJail.open({ dataDir, uidBase: 300_000 }),
      maxWaiting: 64,
      recoverSinceMs: 0,
      outputLimitBytes: 10_000_000,
      journalLimitBytes: 256 * 1024 ** 2,
      journalsLimitBytes: 1024 ** 3,
      packageIndexUrl: null,
      layersLimitBytes: 1024 ** 3,
      isTunnelled: false,
      version: "test",
      log,
      ...options,
    });
    return new TestExecutor(dataDir, executor, lines);
  }

  private constructor(dataDir: string, executor: StartedExecutor, log: string[]) {
    this.dataDir = dataDir;
    this.executor = executor;
    this.log = log;
    this.client = new HttpExecutor({ unix: `${dataDir}/executor/socket` });
  }

  async sandbox(spec: Partial<SandboxSpec> = {}): Promise<string> {
    const id = `s${++this.#count}`;
    await this.client.createSandbox(id, { ...SPEC, ...spec });
    return id;
  }

  newId(): string {
    return `e${++this.#count}`;
  }

  /** The stream of a new execution's journal. */
  start(
    id: string,
    sandboxId: string,
    code: string,
    fields: Partial<ExecutionRequest> = {},
    signal?: AbortSignal,
  ): Promise<ReadableStream<Uint8Array>> {
    const request: ExecutionRequest = {
      sandboxId,
      language: "python",
      code,
      event: null,
      env: {},
      stdin: "",
      timeoutMs: 30_000,
      createdAt: new Date().toISOString(),
      ...fields,
    };
    return this.client.execute(id, request, signal);
  }

  /** Runs code to its end. */
  async run(sandboxId: string, code: string, fields: Partial<ExecutionRequest> = {}): Promise<Ran> {
    return collect(await this.start(this.newId(), sandboxId, code, fields));
  }

  shell(sandboxId: string, code: string, fields: Partial<ExecutionRequest> = {}): Promise<Ran> {
    return this.run(sandboxId, code, { language: "shell" satisfies Language, ...fields });
  }

  async close(): Promise<void> {
    await this.executor.close();
    await rm(this.dataDir, { recursive: true, force: true });
  }
}

export async function collect(stream: ReadableStream<Uint8Array>): Promise<Ran> {
  return ranOf(parseEntries(await new Response(stream).text()));
}

/** Checks that numbers and offsets leave no gap. */
export function ranOf(entries: Entry[]): Ran {
  const text = { stdout: "", stderr: "" };
  const bytes = { stdout: 0, stderr: 0 };
  let returned: unknown = null;
  for (const [index, { seq, type, json }] of entries.entries()) {
    if (seq !== index + 1) throw new Error(`entry ${index} has number ${seq}`);
    if (type === "result") returned = json["return_value"];
    if (type !== "stdout" && type !== "stderr") continue;
    const payload = json as OutputPayload;
    if (payload.offset !== bytes[type]) throw new Error(`offset ${payload.offset} is not ${bytes[type]}`);
    text[type] += payload.text;
    bytes[type] +=
      payload.data === undefined ? Buffer.byteLength(payload.text) : Buffer.from(payload.data, "base64").length;
  }
  const last = entries.at(-1);
  if (last?.type !== "end") throw new Error(`the journal ends with ${JSON.stringify(last)}`);
  return { entries, outcome: last.json as unknown as Outcome, ...text, returned };
}

export function parseEntries(text: string): Entry[] {
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => {
      const [, seq, type, json] = /^(\d+) (\w+) (.*)$/s.exec(line) ?? [];
      return { seq: Number(seq), type: type ?? "", json: JSON.parse(json ?? "null") as Record<string, unknown> };
    });
}

/** Reads a journal until an entry of this type is there, and returns what was read. Leaves the stream to the caller. */
export async function readUntil(
  reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> },
  type: string,
): Promise<string> {
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (value !== undefined) text += Buffer.from(value).toString("utf8");
    if (done || new RegExp(`^\\d+ ${type} .*\n`, "m").test(text)) return text;
  }
}
