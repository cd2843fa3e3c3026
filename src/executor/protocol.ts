import type { RawJson } from "../json-text.ts";

/**
 * What the control plane and an executor say to each other: HTTP over a unix socket (edge) or TCP with a bearer token
 * (Pod). Both ends are this program, so JSON bodies carry these types as they are.
 *
 *     GET    /health                               ExecutorHealth
 *     GET    /isolation                            Check[], of a sandbox that was made for it within the last two seconds
 *     GET    /sandboxes                            SandboxState[]
 *     PUT    /sandboxes/:id                        SandboxSpec → SandboxState; the same id again returns the existing one
 *     PUT    /pools                                PoolSpec[] → 204; the warm pools that there shall be from now on
 *     PUT    /sandboxes/:id/layers                 string[] → 204; the layers of executions from now on
 *     GET    /sandboxes/:id/audit                  EgressDecision[], newest first; empty for an unknown one
 *     POST   /layers                               LayerRequest → Layer; the same set again is the same layer
 *     POST   /layers/find                          LayerRequest → Layer, or null when it would have to be built
 *     GET    /layers/NAME                          archive (layers/layer-archive.ts)
 *     PUT    /layers                               a line of JSON (LayerRequest), archive → Layer
 *     GET    /tunnel?for=sandbox|layers            a WebSocket (tunnel/frames.ts): where connections leave that programs make
 *     DELETE /sandboxes/:id?workspace=keep|delete  204, also when there is none
 *     PUT    /executions/:id                       ExecutionRequest → its journal, live, from entry 1; idempotent by id
 *     GET    /executions/:id/journal?after=SEQ     its journal, live, from entry SEQ+1
 *     GET    /executions/:id/output                ExecutionOutput
 *     POST   /executions/:id/cancel                204 when no process of it is left
 *     DELETE /executions/:id?sandbox=ID            204; forgets the journal, which is one of this sandbox
 *     GET    /journals                             JournalName[]; those that should go, empty while there is room
 *     GET    /sandboxes/:id/files?path&recursive&limit   FileEntry[]
 *     GET|HEAD|PUT|DELETE /sandboxes/:id/files/PATH      bytes; Range and ETag as HTTP has them
 *     POST   /sandboxes/:id/files/move {from,to} · /files/mkdir {path}   204
 *     GET    /sandboxes/:id/tree?known&max_bytes   WorkspaceTree; 304 while its tag is `known`
 *     PUT    /sandboxes/:id/tree                   archive (archive.ts) → 204; before the sandbox is there
 *     POST   /shutdown                             204; ends every sandbox and the process
 *
 * An error answers with the status of its code and `{code, message}`.
 *
 * Journal: one entry a line, `SEQ TYPE JSON\n`, SEQ contiguous from 1, JSON without newlines; the same bytes on disk, on
 * this wire and (re-framed) in SSE. A journal whose last entry is not `end` belongs to an execution that still runs.
 * A response that closes before `end` was cut.
 */

export type Language = "python" | "javascript" | "typescript" | "shell";
export const LANGUAGES: readonly Language[] = ["python", "javascript", "typescript", "shell"];

export type TerminalStatus = "completed" | "failed" | "timeout" | "crashed" | "cancelled";

/** Which limit or event ended an execution; null when the program ended by itself with success. */
export type EndReason =
  | "exception" // the program raised, or the handler did
  | "exit_code" // the program ended with a code other than 0
  | "signal" // a signal that nobody here sent ended it
  | "invalid_result" // the handler's value is not JSON, or is too large
  | "timeout"
  | "memory_limit"
  | "disk_limit"
  | "process_limit"
  | "cancelled"
  | "session_ended"
  | "executor_lost"
  | "sandbox_lost"
  | "start_failed"; // the interpreter is missing or could not be started

export type SandboxLimits = {
  cpuCores: number;
  memoryBytes: number;
  diskBytes: number;
  maxProcesses: number;
};

export type SandboxSpec = {
  imageUrl: string;
  runtimeType: string;
  limits: SandboxLimits;
  /** The session's variables; those of an execution are laid over them. */
  env: Record<string, string>;
  /** Executions that run at the same time; 64 more wait (contract). */
  maxRunning: number;
  /** What it may connect to; absent: nothing. */
  network?: NetworkRules;
  /** Names of the Python layers of its executions; the first wins. */
  layers?: readonly string[];
  /** Python modules of the image to import while idle. */
  preload?: readonly string[];
};

/** Rules as egress/allow-list.ts reads them. `trusted` names are dialled whatever address they lead to. */
export type NetworkRules = { allow: readonly string[]; trusted?: readonly string[] };

/** One decision of a sandbox's proxy, as the session's audit log shows it. */
export type EgressDecision = {
  at: string;
  method: string;
  host: string;
  port: number;
  /** The address that was dialled; null when none was. */
  address: string | null;
  allowed: boolean;
  reason: string;
};

/**
 * A set of Python packages, in an image. `requirements` are PEP 508 lines; an `indexUrl` of null is the executor's own index.
 * `exact`: the versions that an earlier layer of the set held; one that is built now holds the same.
 */
export type LayerRequest = {
  requirements: readonly string[];
  exact?: readonly string[];
  indexUrl: string | null;
  imageUrl: string;
  timeoutMs: number;
};

/** An installed set. `name` is for SandboxSpec.layers, `path` where it is inside the sandboxes. */
export type Layer = { name: string; path: string; packages: InstalledPackage[] };
export type InstalledPackage = { name: string; version: string };

export type SandboxState = {
  id: string;
  /** `running` until the sandbox's init has ended for any reason; then `lost` until it is deleted or made again. */
  status: "running" | "lost";
  /** Path of the workspace inside the sandbox. */
  workspacePath: string;
  /** Milliseconds that each phase of the creation took. */
  timing: Record<string, number>;
  /** Whether it came from a warm pool; null when there is none for its kind. */
  pool: "hit" | "miss" | null;
};

/**
 * Sandboxes of a kind that are started ahead and claimed by the first creations that fit. `id` names it: a template's.
 * `once`: they are started before the answer, and not again when they were claimed.
 */
export type PoolSpec = { id: string; size: number; sandbox: SandboxSpec; once?: boolean };

export type ExecutionRequest = {
  sandboxId: string;
  language: Language;
  code: string;
  /** Given to `handler`, and to shell code as EVENT_JSON; null when there is none. */
  event: RawJson | null;
  env: Record<string, string>;
  stdin: string;
  timeoutMs: number;
  /** When the caller submitted it, ISO 8601; entry 1 of the journal says `pending` at this time. */
  createdAt: string;
};

export type Artifact = { path: string; size: number; mime_type: string; type: "created" | "modified" };

export type Metrics = {
  duration_ms: number;
  cpu_time_ms: number;
  peak_memory_mb: number;
  io_read_bytes: number;
  io_write_bytes: number;
};

/** JSON of each journal entry type. `at` is ISO 8601; `offset` counts bytes of that stream before this entry. */
export type JournalPayloads = {
  status: { status: "pending" | "running"; at: string };
  stdout: OutputPayload;
  stderr: OutputPayload;
  /** The value is carried as it was written. */
  result: { return_value: unknown };
  end: Outcome;
};

/** `text` is the output as UTF-8 with U+FFFD for what is not; `data` (base64 of the true bytes) is there only when they differ. */
export type OutputPayload = { text: string; data?: string; offset: number; at: string };

export type JournalType = keyof JournalPayloads;

/** How an execution ended, as the executor saw it. */
export type Outcome = {
  status: TerminalStatus;
  exit_code: number | null;
  reason: EndReason | null;
  error_message: string | null;
  started_at: string | null;
  completed_at: string;
  metrics: Metrics;
  /** True byte counts, also of what was cut. */
  stdout_bytes: number;
  stderr_bytes: number;
  stdout_truncated: boolean;
  stderr_truncated: boolean;
  artifacts: Artifact[];
  /** Milliseconds: queue, spawn, run, flush. */
  timing: Record<string, number>;
};

/** Output for the record: each stream's first `outputLimitBytes` bytes as text. */
export type ExecutionOutput = { stdout: string; stderr: string };

/** The journal of the execution `id`. */
export type JournalName = { id: string; sandboxId: string };

export type FileEntry = {
  name: string;
  /** Relative to the workspace, with `/`, no leading `/`. */
  path: string;
  size: number;
  /** Milliseconds since the epoch. */
  modifiedMs: number;
  etag: string;
  type: "file" | "directory" | "symlink" | "other";
  /** Permission bits, octal, such as "0644". */
  mode: string;
};

/**
 * The answer to a GET or HEAD of a file: status (200, 206, 304, 416) and headers (Content-Length, ETag, Content-Range,
 * Last-Modified) ready to pass on. A body of known length is a Blob where the file can be read here, which is the only kind
 * of streamed body that Bun.serve sends with its Content-Length.
 */
export type FileRead = { status: number; headers: Headers; body: Blob | ReadableStream<Uint8Array> | null };

/** The Content-Length of a streamed body, which Bun.serve sends without it. */
export const BODY_LENGTH = "x-sandbox-length";

/**
 * Names an open file to a peer on the same host: `<path> <start> <end>`. The descriptor stays open for HANDED_OVER_MS. Sent
 * instead of the body when the request has LOCAL_READER.
 */
export const FILE_HANDLE = "x-sandbox-file";
export const LOCAL_READER = "x-sandbox-local";
/** Code of a refusal, for the answer to a HEAD, which has no body. */
export const REFUSAL_CODE = "x-sandbox-code";
export const HANDED_OVER_MS = 30_000;

/** A file of a version of a workspace: path as in FileEntry, permission bits such as "0644". */
export type TreeFile = { path: string; mode: string; size: number; sha256: string; modified_ms?: number };

/** What a version of a workspace keeps. Files that are linked to each other come as files of their own. */
export type WorkspaceContent = {
  entries: TreeFile[];
  directories: { path: string; mode: string }[];
  links: { path: string; target: string }[];
};

/** `tag` names this very content. `skipped`: entries that no version keeps, such as pipes and files closed by their mode. */
export type WorkspaceTree = WorkspaceContent & { tag: string; skipped: number };

export type TreeOptions = { known: string | null; maxBytes: number; signal?: AbortSignal };

export type FileWritten = { path: string; size: number; created: boolean };

export type Check = { name: string; ok: boolean; found: string; remedy?: string };

export type ExecutorHealth = {
  version: string;
  pid: number;
  startedAt: string;
  sandboxes: number;
  runningExecutions: number;
  /** Warm sandboxes that are ready, by pool. */
  pools: Record<string, number>;
};

/** An executor as the control plane sees it. Every method throws AppError; a lost connection is `executor_unavailable`. */
export interface Executor {
  health(signal?: AbortSignal): Promise<ExecutorHealth>;
  /** What isolation is in force, one check a mechanism, as a sandbox shows that is made for it now and then. */
  isolation(): Promise<Check[]>;
  listSandboxes(): Promise<SandboxState[]>;
  setPools(pools: readonly PoolSpec[]): Promise<void>;
  createSandbox(id: string, spec: SandboxSpec): Promise<SandboxState>;
  deleteSandbox(id: string, options: { deleteWorkspace: boolean }): Promise<void>;
  /** The layers of executions from now on. No such sandbox: `session_not_found`. */
  setLayers(id: string, layers: readonly string[]): Promise<void>;
  audit(sandboxId: string): Promise<EgressDecision[]>;
  /** Finds or builds the layer. `dependency_failed` with the installer's words when it can't be. */
  ensureLayer(request: LayerRequest): Promise<Layer>;
  /** Starts the execution unless it is known, and follows its journal from entry 1. Aborting stops the reader only. */
  execute(id: string, request: ExecutionRequest, signal?: AbortSignal): Promise<ReadableStream<Uint8Array>>;
  /** Follows the journal from entry `after + 1`. Aborting stops the reader only. Unknown id: `execution_not_found`. */
  journal(id: string, after: number, signal?: AbortSignal): Promise<ReadableStream<Uint8Array>>;
  output(id: string): Promise<ExecutionOutput>;
  /** Resolves when no process of the execution is left. Idempotent. Unknown id: `execution_not_found`. */
  cancel(id: string): Promise<void>;
  /** The oldest journals of what has ended, when the disk for journals is nearly full: those whose end is stored can go. */
  surplusJournals(): Promise<JournalName[]>;
  deleteExecution(id: string, sandboxId: string): Promise<void>;
  listFiles(sandboxId: string, path: string, options: { recursive: boolean; limit: number }): Promise<FileEntry[]>;
  /** GET or HEAD of a file. */
  readFile(
    sandboxId: string,
    path: string,
    method: "GET" | "HEAD",
    headers: Headers,
    signal?: AbortSignal,
  ): Promise<FileRead>;
  writeFile(
    sandboxId: string,
    path: string,
    body: ReadableStream<Uint8Array>,
    limitBytes: number,
  ): Promise<FileWritten>;
  removeFile(sandboxId: string, path: string): Promise<void>;
  moveFile(sandboxId: string, from: string, to: string): Promise<void>;
  makeDirectory(sandboxId: string, path: string): Promise<void>;
  /** All of a workspace; null when its tag is `known`. `body_too_large` past `maxBytes` or too many entries. */
  tree(sandboxId: string, options: TreeOptions): Promise<WorkspaceTree | null>;
  /** Fills a workspace with an archive (archive.ts). `session_exists` once its sandbox is there. */
  restoreTree(sandboxId: string, archive: ReadableStream<Uint8Array>): Promise<void>;
  /** Ends every sandbox and the executor itself. */
  shutdown(): Promise<void>;
}
