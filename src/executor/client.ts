import { AppError } from "../errors.ts";
import { withMember } from "../json-text.ts";
import { indexRules } from "./layers/package-index.ts";
import { withFirstLine } from "./layers/layer-archive.ts";
import { checkedLayer } from "./layers/layer-answer.ts";
import type { TunnelUse } from "./tunnel/hub.ts";
import { Tunnel } from "./tunnel/tunnel.ts";
import { MAX_TREE_ENTRIES } from "./tree.ts";
import { checkedTree } from "./tree-answer.ts";
import { unavailable } from "./answer.ts";
import { ANSWER_MS, Calls, MAX_ANSWER_BYTES, type ExecutorAddress, type PodAddress } from "./calls.ts";
import { BODY_LENGTH, FILE_HANDLE, LOCAL_READER } from "./protocol.ts";
import type {
  Check,
  EgressDecision,
  ExecutionOutput,
  ExecutionRequest,
  Executor,
  ExecutorHealth,
  FileEntry,
  FileRead,
  FileWritten,
  JournalName,
  Layer,
  LayerRequest,
  NetworkRules,
  PoolSpec,
  SandboxSpec,
  SandboxState,
  TreeOptions,
  WorkspaceTree,
} from "./protocol.ts";

const MEBIBYTE = 1024 ** 2;
const MAX_LIST_BYTES = 8 * MEBIBYTE;
/** A workspace with as many entries as a version can have, of 300 bytes each. */
const MAX_TREE_BYTES = 16 * MEBIBYTE;
/** Both output streams of a record, escaped. */
const MAX_OUTPUT_BYTES = 128 * MEBIBYTE;
/** What a file in a list may take, in the long run. */
const LISTED_BYTES = 2048;
const BULK_MS = 120_000;
/** 50 GiB, the largest workspace, at some 60 MB/s. */
const RESTORE_MS = 15 * 60_000;

/** An executor in another process, over HTTP (protocol.ts). */
export class HttpExecutor implements Executor {
  readonly #calls: Calls;
  readonly #pod: PodAddress | null;

  constructor(address: ExecutorAddress) {
    this.#pod = "unix" in address ? null : address;
    this.#calls = new Calls(address);
  }

  health(signal?: AbortSignal): Promise<ExecutorHealth> {
    return this.#calls.json("/health", { signal, withinMs: ANSWER_MS });
  }

  isolation(): Promise<Check[]> {
    return this.#calls.json("/isolation");
  }

  listSandboxes(): Promise<SandboxState[]> {
    return this.#calls.json("/sandboxes", { withinMs: ANSWER_MS, maxBytes: MAX_LIST_BYTES });
  }

  createSandbox(id: string, spec: SandboxSpec): Promise<SandboxState> {
    return this.#calls.json(`/sandboxes/${id}`, { method: "PUT", json: spec, withinMs: ANSWER_MS });
  }

  async setPools(pools: readonly PoolSpec[]): Promise<void> {
    await this.#calls.tell("/pools", { method: "PUT", json: pools });
  }

  async deleteSandbox(id: string, options: { deleteWorkspace: boolean }): Promise<void> {
    const workspace = options.deleteWorkspace ? "delete" : "keep";
    await this.#calls.tell(`/sandboxes/${id}?workspace=${workspace}`, { method: "DELETE" });
  }

  async setLayers(id: string, layers: readonly string[]): Promise<void> {
    await this.#calls.tell(`/sandboxes/${id}/layers`, { method: "PUT", json: layers });
  }

  audit(sandboxId: string): Promise<EgressDecision[]> {
    return this.#calls.json(`/sandboxes/${sandboxId}/audit`, { withinMs: ANSWER_MS, maxBytes: MAX_LIST_BYTES });
  }

  /** The layer in the Pod, unless it would have to be built there. */
  async findLayer(request: LayerRequest): Promise<Layer | null> {
    const found = await this.#calls.json<unknown>("/layers/find", {
      method: "POST",
      json: request,
      withinMs: ANSWER_MS,
      maxBytes: MAX_LIST_BYTES,
    });
    return found === null ? null : checkedLayer(found);
  }

  /** The bytes of a layer, for `putLayer`. */
  async layerArchive(name: string): Promise<ReadableStream<Uint8Array>> {
    return this.#calls.stream(`/layers/${name}`, { withinMs: BULK_MS });
  }

  /** Has the bytes of a layer be the one that is asked for. */
  async putLayer(request: LayerRequest, archive: ReadableStream<Uint8Array>): Promise<Layer> {
    const body = withFirstLine(JSON.stringify(request), archive);
    return checkedLayer(
      await this.#calls.json("/layers", { method: "PUT", body, withinMs: BULK_MS, maxBytes: MAX_LIST_BYTES }),
    );
  }

  /** In a Pod the build reaches its index through a tunnel of its own, and nothing else. */
  async ensureLayer(request: LayerRequest): Promise<Layer> {
    if (this.#pod === null) return this.#calls.json("/layers", { method: "POST", json: request });
    const indexUrl = request.indexUrl ?? this.#pod.indexUrl;
    const rules = indexRules(indexUrl, indexUrl === this.#pod.indexUrl);
    const tunnel = await this.openTunnel("layers", rules, () => {});
    try {
      const withinMs = request.timeoutMs + BULK_MS;
      const json = { ...request, indexUrl };
      return checkedLayer(
        await this.#calls.json("/layers", { method: "POST", json, withinMs, maxBytes: MAX_LIST_BYTES }),
      );
    } finally {
      tunnel.close();
    }
  }

  /** Lets programs beside the executor reach what the rules allow, as long as it is open. `decided` hears each decision. */
  async openTunnel(use: TunnelUse, rules: NetworkRules, decided: (decision: EgressDecision) => void): Promise<Tunnel> {
    if (this.#pod === null) throw new AppError("internal", "an executor on this host needs no tunnel");
    try {
      const nameable = use === "sandbox" ? (this.#pod.privateRanges ?? []) : null;
      return await Tunnel.open({ ...this.#pod, use, rules, nameable, decided });
    } catch (error) {
      throw error instanceof AppError ? error : unavailable(error);
    }
  }

  async execute(id: string, request: ExecutionRequest, signal?: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const { event, ...rest } = request;
    const body = withMember(rest, "event", event);
    return this.#calls.stream(`/executions/${id}`, { method: "PUT", body, signal });
  }

  async journal(id: string, after: number, signal?: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    return this.#calls.stream(`/executions/${id}/journal?after=${after}`, { signal });
  }

  output(id: string): Promise<ExecutionOutput> {
    return this.#calls.json(`/executions/${id}/output`, { withinMs: BULK_MS, maxBytes: MAX_OUTPUT_BYTES });
  }

  async cancel(id: string): Promise<void> {
    await this.#calls.tell(`/executions/${id}/cancel`, { method: "POST" });
  }

  surplusJournals(): Promise<JournalName[]> {
    return this.#calls.json("/journals");
  }

  async deleteExecution(id: string, sandboxId: string): Promise<void> {
    await this.#calls.tell(`/executions/${id}?sandbox=${sandboxId}`, { method: "DELETE" });
  }

  async listFiles(
    sandboxId: string,
    path: string,
    options: { recursive: boolean; limit: number },
  ): Promise<FileEntry[]> {
    const query = new URLSearchParams({ path, recursive: String(options.recursive), limit: String(options.limit) });
    const maxBytes = MAX_ANSWER_BYTES + options.limit * LISTED_BYTES;
    const call = { withinMs: BULK_MS, maxBytes, maxObjects: options.limit + 1 };
    const files = await this.#calls.json<FileEntry[]>(`/sandboxes/${sandboxId}/files?${query.toString()}`, call);
    return files.slice(0, options.limit);
  }

  async readFile(
    sandboxId: string,
    path: string,
    method: "GET" | "HEAD",
    headers: Headers,
    signal?: AbortSignal,
  ): Promise<FileRead> {
    const isLocal = this.#pod === null;
    if (isLocal) headers.set(LOCAL_READER, "1");
    const response = await this.#calls.call(filePath(sandboxId, path), { method, headers, signal }, [416]);
    const { status, headers: answered } = response;
    const [file, start, end] = answered.get(FILE_HANDLE)?.split(" ") ?? [];
    // An executor elsewhere is in a container of somebody's image: it may not name files of this host.
    if (file === undefined || !isLocal) {
      const length = answered.get(BODY_LENGTH);
      if (length !== null) answered.set("Content-Length", length);
      return { status, headers: answered, body: response.body };
    }
    answered.set("Content-Length", String(Number(end) - Number(start)));
    return { status, headers: answered, body: Bun.file(file).slice(Number(start), Number(end)) };
  }

  writeFile(
    sandboxId: string,
    path: string,
    body: ReadableStream<Uint8Array>,
    limitBytes: number,
  ): Promise<FileWritten> {
    return this.#calls.json(`${filePath(sandboxId, path)}?limit=${limitBytes}`, { method: "PUT", body });
  }

  async removeFile(sandboxId: string, path: string): Promise<void> {
    await this.#calls.tell(filePath(sandboxId, path), { method: "DELETE" });
  }

  async moveFile(sandboxId: string, from: string, to: string): Promise<void> {
    await this.#calls.tell(`/sandboxes/${sandboxId}/files/move`, { method: "POST", json: { from, to } });
  }

  async makeDirectory(sandboxId: string, path: string): Promise<void> {
    await this.#calls.tell(`/sandboxes/${sandboxId}/files/mkdir`, { method: "POST", json: { path } });
  }

  async tree(sandboxId: string, options: TreeOptions): Promise<WorkspaceTree | null> {
    const query = new URLSearchParams({ known: options.known ?? "", max_bytes: String(options.maxBytes) });
    const response = await this.#calls.call(`/sandboxes/${sandboxId}/tree?${query.toString()}`, {
      signal: options.signal,
    });
    if (response.status === 304) return null;
    const bounds = { maxBytes: MAX_TREE_BYTES, maxObjects: MAX_TREE_ENTRIES + 4 };
    return checkedTree(await this.#calls.read(response, bounds), options.maxBytes);
  }

  async restoreTree(sandboxId: string, archive: ReadableStream<Uint8Array>): Promise<void> {
    await this.#calls.tell(`/sandboxes/${sandboxId}/tree`, { method: "PUT", body: archive, withinMs: RESTORE_MS });
  }

  /** Asks the executor to end all of its sandboxes and itself. */
  async shutdown(): Promise<void> {
    await this.#calls.tell("/shutdown", { method: "POST" });
  }
}

function filePath(sandboxId: string, path: string): string {
  return `/sandboxes/${sandboxId}/files/${path.split("/").map(encodeURIComponent).join("/")}`;
}
