import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { Turns } from "../turns.ts";
import { AuditLogs } from "./egress/audit.ts";
import { EarlyCancels } from "./early-cancels.ts";
import { Egress } from "./egress/egress.ts";
import { openWayOut } from "./egress/way-out.ts";
import { Execution } from "./execution.ts";
import { ONCE } from "./ids.ts";
import type { Jail } from "./jail/jail.ts";
import type { JournalSource } from "./journal.ts";
import { collectOutput, followJournal } from "./journal-reader.ts";
import type { Journals } from "./journals.ts";
import type { EgressDecision, ExecutionOutput, ExecutionRequest, SandboxSpec, SandboxState } from "./protocol.ts";
import { Sandbox } from "./sandbox.ts";
import type { TunnelHub } from "./tunnel/hub.ts";
import { WarmPools } from "./warm-pool.ts";

export type SandboxesDeps = {
  jail: Jail;
  journals: Journals;
  log: Log;
  dataDir: string;
  /** Executions of a sandbox that may wait for their turn. */
  maxWaiting: number;
  /** Bytes of each output stream that a record keeps. */
  outputLimitBytes: number;
  /** Where connections leave; null: through a proxy of this executor's own. */
  tunnels: TunnelHub | null;
};

/** Every sandbox of this executor and the executions in them. Methods throw AppError. */
export class Sandboxes {
  readonly #d: SandboxesDeps;
  readonly #sandboxes = new Map<string, Sandbox>();
  /** Sandboxes of programs that run once. */
  readonly #unlisted = new Set<Sandbox>();
  readonly #live = new Map<string, Execution>();
  /** The change of a sandbox that is under way: one at a time for each id. */
  readonly #changes = new Turns();
  readonly audit: AuditLogs;
  /** Sandboxes that are nobody's yet. */
  readonly pools: WarmPools;
  readonly #earlyCancels = new EarlyCancels();
  /** The sandbox that was made last. */
  #lastId: string | null = null;
  #closed = false;

  constructor(deps: SandboxesDeps) {
    this.#d = deps;
    this.audit = new AuditLogs(deps.dataDir);
    Egress.cleanUp(deps.dataDir);
    this.pools = new WarmPools({
      log: deps.log,
      make: (id, spec) => this.#start(id, spec),
      discard: async (sandbox) => {
        await sandbox.end();
        await (deps.jail.abandon?.(sandbox.state.id) ?? deps.jail.removeWorkspace(sandbox.state.id));
      },
      isBusy: () => this.#live.size > 0,
    });
  }

  get count(): number {
    return this.#sandboxes.size;
  }

  /** Nothing can be started any more. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /** Executions that wait or run. */
  get liveExecutions(): number {
    return this.#live.size;
  }

  isLive(executionId: string): boolean {
    return this.#live.has(executionId);
  }

  list(): SandboxState[] {
    return [...this.#sandboxes.values()].map((sandbox) => sandbox.state);
  }

  /** The sandbox of this id, running or lost. */
  find(id: string): Sandbox | null {
    return this.#sandboxes.get(id) ?? null;
  }

  /** The workspace of a sandbox that is here, or of the one that was made last; null when that can't be told. */
  workspaceOf(id: string): string | null {
    const present = this.#sandboxes.get(id);
    if (present !== undefined) return present.jailed.workspaceDir;
    return this.#lastId === id ? (this.#d.jail.onlyWorkspace ?? null) : null;
  }

  /** Fills the workspace of the one sandbox that there will be. `session_exists` when it is there. */
  restore(id: string, fill: (workspaceDir: string) => Promise<void>): Promise<void> {
    return this.#changes.take(id, async () => {
      const workspaceDir = this.#d.jail.onlyWorkspace;
      if (workspaceDir === undefined) throw new AppError("bad_request", "workspaces are kept here, and never restored");
      if (this.#sandboxes.size > 0 || this.#lastId !== null)
        throw new AppError("session_exists", "the workspace is in use already");
      await fill(workspaceDir);
    });
  }

  /** Makes the sandbox unless it runs; a lost one is made again. */
  create(id: string, spec: SandboxSpec): Promise<SandboxState> {
    return this.#changes.take(id, async () => {
      if (this.#closed) throw new AppError("executor_unavailable", "the executor is ending");
      const present = this.#sandboxes.get(id);
      if (present !== undefined && present.state.status === "running") return present.state;
      if (present !== undefined) await this.#remove(present);
      const warm = this.#d.jail.canClaim?.(id) === true ? this.pools.take(spec) : null;
      // Where there is room for one alone, one that does not fit makes room.
      if (this.#d.jail.onlyWorkspace !== undefined) await this.pools.set([]);
      const sandbox = warm instanceof Sandbox ? warm.adopt(id, spec) : await this.#start(id, spec);
      sandbox.state.pool = warm instanceof Sandbox ? "hit" : warm;
      this.#sandboxes.set(id, sandbox);
      this.#lastId = id;
      return sandbox.state;
    });
  }

  #start(id: string, spec: SandboxSpec): Promise<Sandbox> {
    return Sandbox.start(id, spec, {
      jail: this.#d.jail,
      log: this.#d.log.with({ sandbox_id: id }),
      maxWaiting: this.#d.maxWaiting,
      openEgress: (sandboxId, spec, decided) => openWayOut(this.#d, sandboxId, spec, decided),
      audited: (sandboxId, decision) => this.#audited(sandboxId, decision),
      ended: (execution) => this.#live.delete(execution.id),
    });
  }

  #audited(id: string, decision: EgressDecision): void {
    try {
      this.audit.append(id, decision);
    } catch (error) {
      this.#d.log.error("audit.not_written", { sandbox_id: id, decision, error });
    }
  }

  /** The layers of executions from now on. */
  setLayers(id: string, names: readonly string[]): void {
    const sandbox = this.#sandboxes.get(id);
    if (sandbox === undefined) return notFound("session_not_found", `there is no sandbox ${id}`);
    sandbox.layers = names;
  }

  /** Names of the layers that a sandbox has. */
  layersInUse(): Set<string> {
    return new Set([...this.#sandboxes.values()].flatMap((sandbox) => sandbox.layers));
  }

  /** Ends a sandbox and its executions. With `deleteWorkspace` its files and journals go too. Idempotent. */
  delete(id: string, options: { deleteWorkspace: boolean }): Promise<void> {
    return this.#changes.take(id, async () => {
      const present = this.#sandboxes.get(id);
      if (present !== undefined) await this.#remove(present);
      if (options.deleteWorkspace) await this.#forgetFiles(id);
    });
  }

  async #remove(sandbox: Sandbox): Promise<void> {
    await sandbox.end();
    this.#sandboxes.delete(sandbox.state.id);
  }

  /**
   * Runs one program in a sandbox of its own that is on no list. `take` gets its whole journal and the workspace, once no
   * process of it is left; nothing of it stays.
   */
  async once<T>(
    spec: SandboxSpec,
    request: Omit<ExecutionRequest, "sandboxId">,
    take: (journal: string, workspaceDir: string) => Promise<T>,
  ): Promise<T> {
    if (this.#closed) throw new AppError("executor_unavailable", "the executor is ending");
    const id = `${ONCE}${crypto.randomUUID()}`;
    return this.#changes.take(id, async () => {
      try {
        return await this.#runOnce(id, spec, request, take);
      } finally {
        await this.#forgetFiles(id);
      }
    });
  }

  async #runOnce<T>(
    id: string,
    spec: SandboxSpec,
    request: Omit<ExecutionRequest, "sandboxId">,
    take: (journal: string, workspaceDir: string) => Promise<T>,
  ): Promise<T> {
    const sandbox = await this.#start(id, spec);
    this.#unlisted.add(sandbox);
    try {
      const execution = new Execution(id, { ...request, sandboxId: id }, this.#d.journals.create(id, id), sandbox);
      const text = await new Response(followJournal(this.#submit(execution, sandbox), 0)).text();
      await sandbox.end();
      return await take(text, sandbox.jailed.workspaceDir);
    } finally {
      await sandbox.end();
      this.#unlisted.delete(sandbox);
    }
  }

  /** Removes what is on disk of a sandbox: workspace, journals and audit log. */
  async #forgetFiles(id: string): Promise<void> {
    await this.#d.jail.removeWorkspace(id);
    this.#d.journals.deleteSandbox(id);
    this.audit.remove(id);
  }

  /** Removes what an executor that was killed left of programs that ran once. */
  async cleanUpLeftovers(): Promise<void> {
    const dir = join(this.#d.dataDir, "workspaces");
    const left = existsSync(dir) ? readdirSync(dir).filter((name) => name.startsWith(ONCE)) : [];
    await Promise.all(left.map((id) => this.#forgetFiles(id)));
  }

  /** Starts the execution, or has it wait its turn, unless it is known. Its journal, retained for the caller. */
  execute(id: string, request: ExecutionRequest): JournalSource {
    const live = this.#live.get(id);
    if (live !== undefined) return live.journal.retain();
    const sandbox = this.#sandboxes.get(request.sandboxId);
    if (this.#closed || sandbox === undefined || sandbox.state.status !== "running")
      return this.#d.journals.open(id) ?? notFound("session_not_found", `there is no sandbox ${request.sandboxId}`);
    sandbox.checkRoom();
    const journal = this.#newJournal(request.sandboxId, id);
    if (journal === null) return this.journal(id);
    return this.#submit(new Execution(id, request, journal, sandbox), sandbox);
  }

  /** Its journal, retained for the caller before anything can end it. */
  #submit(execution: Execution, sandbox: Sandbox): JournalSource {
    const source = execution.journal.retain();
    if (this.#earlyCancels.end(execution)) return source;
    this.#live.set(execution.id, execution);
    sandbox.submit(execution);
    return source;
  }

  #newJournal(sandboxId: string, id: string) {
    try {
      return this.#d.journals.create(sandboxId, id);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return null;
      if ((error as NodeJS.ErrnoException).code === "ENOSPC")
        throw new AppError("disk_full", "the executor's disk is full", { cause: error });
      throw error;
    }
  }

  /** The journal of an execution, live or ended, retained for the caller. */
  journal(id: string): JournalSource {
    const found = this.#live.get(id)?.journal.retain() ?? this.#d.journals.open(id);
    return found ?? notFound("execution_not_found", `there is no execution ${id}`);
  }

  /** What the record keeps of the output. */
  output(id: string): Promise<ExecutionOutput> {
    return collectOutput(this.journal(id), this.#d.outputLimitBytes);
  }

  /** Resolves when no process of the execution is left. One that is not known is `execution_not_found`, and never starts. */
  async cancel(id: string): Promise<void> {
    const live = this.#live.get(id);
    if (live !== undefined) return live.stop("cancelled");
    this.#earlyCancels.add(id);
    this.journal(id).release();
  }

  /** Forgets an execution; a live one is cancelled first. Idempotent. */
  async forget(id: string, sandboxId: string): Promise<void> {
    await this.#live.get(id)?.stop("cancelled");
    this.#d.journals.delete(sandboxId, id);
  }

  /** Ends every sandbox; nothing can be started any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.pools.close();
    for (const sandbox of this.#unlisted) void sandbox.end();
    await this.#changes.settled();
    await Promise.all([...this.#sandboxes.values()].map((sandbox) => this.#remove(sandbox)));
  }
}

function notFound(code: "session_not_found" | "execution_not_found", message: string): never {
  throw new AppError(code, message);
}
