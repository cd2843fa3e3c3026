import { AppError } from "../../src/errors.ts";
import type {
  Check,
  EgressDecision,
  ExecutionOutput,
  ExecutionRequest,
  Executor,
  ExecutorHealth,
  FileEntry,
  FileWritten,
  Layer,
  LayerRequest,
  Outcome,
  SandboxSpec,
  SandboxState,
} from "../../src/executor/protocol.ts";

/** A journal in memory that readers can follow while it grows. */
class Journal {
  readonly lines: string[] = [];
  #grown = Promise.withResolvers<void>();
  ended = false;
  cancelled = Promise.withResolvers<void>();
  readers = 0;

  add(type: string, data: object): void {
    this.addText(type, JSON.stringify(data));
  }

  addText(type: string, json: string): void {
    this.lines.push(`${this.lines.length + 1} ${type} ${json}\n`);
    if (type === "end") this.ended = true;
    this.#grown.resolve();
    this.#grown = Promise.withResolvers();
  }

  stream(after: number, signal?: AbortSignal): ReadableStream<Uint8Array> {
    let next = after;
    this.readers++;
    const left = Promise.withResolvers<void>();
    signal?.addEventListener("abort", () => left.resolve());
    let isOpen = true;
    const close = (): void => {
      if (isOpen) this.readers--;
      isOpen = false;
    };
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          while (next >= this.lines.length && !this.ended && signal?.aborted !== true)
            await Promise.race([this.#grown.promise, left.promise]);
          if (next >= this.lines.length || signal?.aborted === true) {
            close();
            return controller.close();
          }
          const chunk = this.lines.slice(next).join("");
          next = this.lines.length;
          controller.enqueue(new TextEncoder().encode(chunk));
        },
        cancel: close,
      },
      { highWaterMark: 0 },
    );
  }
}

/**
 * An executor without processes. Code is a list of steps, one a line: `out TEXT` and `err TEXT` (JSON strings), `bytes
 * BASE64`, `sleep MS`, `hang` (until cancelled), `result JSON`, `exit N`.
 */
export class FakeExecutor implements Executor {
  readonly journals = new Map<string, Journal>();
  readonly requests: ExecutionRequest[] = [];
  readonly files = new Map<string, Uint8Array>();
  /** Method and path of each read of a file. */
  readonly reads: string[] = [];
  /** When set, every call of files fails with it. */
  fileFailure: unknown = null;
  /** When set, journals are answered with it. */
  journalFailure: AppError | null = null;
  readonly #sandboxes = new Set<string>();

  health(): Promise<ExecutorHealth> {
    throw new Error("not needed");
  }

  isolation(): Promise<Check[]> {
    throw new Error("not needed");
  }

  setPools(): Promise<void> {
    return Promise.resolve();
  }

  listSandboxes(): Promise<SandboxState[]> {
    return Promise.resolve([...this.#sandboxes].map(stateOf));
  }

  createSandbox(id: string, _spec: SandboxSpec): Promise<SandboxState> {
    this.#sandboxes.add(id);
    return Promise.resolve(stateOf(id));
  }

  setLayers(): Promise<void> {
    return Promise.resolve();
  }

  audit(): Promise<EgressDecision[]> {
    return Promise.resolve([]);
  }

  /** Every package is there, at version 1.0, but "missing". */
  ensureLayer({ requirements }: LayerRequest): Promise<Layer> {
    if (requirements.includes("missing"))
      return Promise.reject(new AppError("dependency_failed", "no matching distribution found for missing"));
    const packages = requirements.map((line) => ({ name: line.replace(/[^\w.-].*/, ""), version: "1.0" }));
    return Promise.resolve({ name: "layer", path: "/.layers/layer", packages });
  }

  deleteSandbox(id: string): Promise<void> {
    this.#sandboxes.delete(id);
    return Promise.resolve();
  }

  execute(id: string, request: ExecutionRequest, signal?: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    let journal = this.journals.get(id);
    if (journal === undefined) {
      journal = new Journal();
      this.journals.set(id, journal);
      this.requests.push(request);
      void this.#run(journal, request);
    }
    return Promise.resolve(journal.stream(0, signal));
  }

  async #run(journal: Journal, request: ExecutionRequest): Promise<void> {
    const at = new Date().toISOString();
    journal.add("status", { status: "pending", at: request.createdAt });
    journal.add("status", { status: "running", at });
    const written = { stdout: 0, stderr: 0 };
    const output = (stream: "stdout" | "stderr", bytes: Uint8Array): void => {
      const text = new TextDecoder().decode(bytes);
      const isText = Buffer.from(text).equals(Buffer.from(bytes));
      const data = isText ? {} : { data: Buffer.from(bytes).toString("base64") };
      journal.add(stream, { text, ...data, offset: written[stream], at });
      written[stream] += bytes.length;
    };
    let exitCode: number | null = 0;
    for (const line of request.code.split("\n")) {
      const [, step, rest = ""] = /^(\w+) ?(.*)$/s.exec(line) ?? [];
      if (step === "out" || step === "err")
        output(step === "out" ? "stdout" : "stderr", new TextEncoder().encode(JSON.parse(rest) as string));
      else if (step === "bytes") output("stdout", Buffer.from(rest, "base64"));
      else if (step === "sleep") await Promise.race([Bun.sleep(Number(rest)), journal.cancelled.promise]);
      else if (step === "hang") {
        await journal.cancelled.promise;
        exitCode = null;
      } else if (step === "result") journal.addText("result", `{"return_value":${rest}}`);
      else if (step === "exit") exitCode = Number(rest);
    }
    const status = exitCode === null ? "cancelled" : exitCode === 0 ? "completed" : "failed";
    journal.add("end", outcome(status, exitCode, written));
  }

  journal(id: string, after: number, signal?: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    if (this.journalFailure !== null) throw this.journalFailure;
    return Promise.resolve(this.#journal(id).stream(after, signal));
  }

  #journal(id: string): Journal {
    const journal = this.journals.get(id);
    if (journal === undefined) throw new AppError("execution_not_found", `there is no execution ${id}`);
    return journal;
  }

  output(id: string): Promise<ExecutionOutput> {
    const output = { stdout: "", stderr: "" };
    for (const line of this.#journal(id).lines) {
      const [, stream, json = ""] = /^\d+ (stdout|stderr) (.*)$/s.exec(line) ?? [];
      if (stream !== undefined) output[stream as "stdout"] += (JSON.parse(json) as { text: string }).text;
    }
    return Promise.resolve(output);
  }

  cancel(id: string): Promise<void> {
    this.#journal(id).cancelled.resolve();
    return Promise.resolve();
  }

  surplusJournals(): Promise<[]> {
    return Promise.resolve([]);
  }

  deleteExecution(id: string): Promise<void> {
    this.journals.delete(id);
    return Promise.resolve();
  }

  listFiles(_id: string, path: string, options: { recursive: boolean; limit: number }): Promise<FileEntry[]> {
    this.#failIfTold();
    const entries = [...this.files].filter(([name]) => name === path || path === "" || name.startsWith(`${path}/`));
    if (entries.length === 0 && path !== "") throw new AppError("file_not_found", `there is no ${path}`);
    return Promise.resolve(
      entries.slice(0, options.limit).map(([name, bytes]) => ({
        name: name.split("/").at(-1) ?? "",
        path: name,
        size: bytes.length,
        modifiedMs: 1_700_000_000_000,
        etag: '"e"',
        type: "file" as const,
        mode: "0644",
      })),
    );
  }

  readFile(_id: string, path: string, method: "GET" | "HEAD", headers: Headers): Promise<Response> {
    this.#failIfTold();
    this.reads.push(`${method} ${path}`);
    const bytes = this.files.get(path);
    if (bytes === undefined) throw new AppError("file_not_found", `there is no ${path}`);
    const common = { ETag: '"e"', "Accept-Ranges": "bytes", "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT" };
    if (headers.get("if-none-match") === '"e"')
      return Promise.resolve(new Response(null, { status: 304, headers: common }));
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(headers.get("range") ?? "") ?? [];
    const start = Number(from ?? 0);
    if (start >= bytes.length && from !== undefined)
      return Promise.resolve(
        new Response(null, { status: 416, headers: { "Content-Range": `bytes */${bytes.length}` } }),
      );
    const part = bytes.slice(start, to === undefined || to === "" ? bytes.length : Number(to) + 1);
    const range =
      from === undefined ? {} : { "Content-Range": `bytes ${start}-${start + part.length - 1}/${bytes.length}` };
    return Promise.resolve(
      new Response(method === "HEAD" ? null : new Blob([part]).stream(), {
        status: from === undefined ? 200 : 206,
        headers: { ...common, ...range, "Content-Length": String(part.length) },
      }),
    );
  }

  /** Files below `sink/` are counted and not kept. */
  async writeFile(
    _id: string,
    path: string,
    body: ReadableStream<Uint8Array>,
    limitBytes: number,
  ): Promise<FileWritten> {
    this.#failIfTold();
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of body) {
      size += chunk.length;
      if (size > limitBytes) throw new AppError("body_too_large", `a file may have at most ${limitBytes} bytes`);
      if (!path.startsWith("sink/")) chunks.push(chunk.slice());
    }
    const created = !this.files.has(path);
    this.files.set(path, Buffer.concat(chunks));
    return { path, size, created };
  }

  removeFile(_id: string, path: string): Promise<void> {
    if (!this.files.delete(path)) throw new AppError("file_not_found", `there is no ${path}`);
    return Promise.resolve();
  }

  moveFile(_id: string, from: string, to: string): Promise<void> {
    const bytes = this.files.get(from);
    if (bytes === undefined) throw new AppError("file_not_found", `there is no ${from}`);
    this.files.delete(from);
    this.files.set(to, bytes);
    return Promise.resolve();
  }

  makeDirectory(): Promise<void> {
    return Promise.resolve();
  }

  tree(): Promise<null> {
    return Promise.resolve(null);
  }

  restoreTree(): Promise<void> {
    return Promise.resolve();
  }

  shutdown(): Promise<void> {
    this.#sandboxes.clear();
    return Promise.resolve();
  }

  #failIfTold(): void {
    if (this.fileFailure !== null) throw this.fileFailure;
  }
}

function stateOf(id: string): SandboxState {
  return { id, status: "running", workspacePath: "/workspace", timing: {}, pool: null };
}

function outcome(
  status: Outcome["status"],
  exitCode: number | null,
  bytes: { stdout: number; stderr: number },
): Outcome {
  const at = new Date().toISOString();
  return {
    status,
    exit_code: exitCode,
    reason: status === "cancelled" ? "cancelled" : status === "failed" ? "exit_code" : null,
    error_message: status === "completed" ? null : "it did not end well",
    started_at: at,
    completed_at: at,
    metrics: { duration_ms: 1, cpu_time_ms: 1, peak_memory_mb: 1, io_read_bytes: 0, io_write_bytes: 0 },
    stdout_bytes: bytes.stdout,
    stderr_bytes: bytes.stderr,
    stdout_truncated: false,
    stderr_truncated: false,
    artifacts: [],
    timing: { queue: 0.5, spawn: 1.25, run: 2 },
  };
}
