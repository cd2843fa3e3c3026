import { constants } from "node:os";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { WorkspaceChanges, type WorkspaceMark } from "./artifacts.ts";
import { proxyVariables, type WayOut } from "./egress/egress.ts";
import type { Execution, ExecutionHost } from "./execution.ts";
import { InitLink } from "./init-link.ts";
import { encodeFrame, FrameError, FrameType, parseExit, parseStartFailed, type Frame } from "./init/frames.ts";
import type { Jail, JailedInit, JailEvents, SandboxLimit } from "./jail/jail.ts";
import { launchPlan, zygoteCommand, type LaunchPlan } from "./languages/launch.ts";
import type { Verdict } from "./outcome.ts";
import type { Artifact, EgressDecision, SandboxLimits, SandboxSpec, SandboxState } from "./protocol.ts";
import { Relay } from "./relay.ts";
import { Spares } from "./spares.ts";
import { inputFrames, startFrame, zygoteFrame } from "./start-frames.ts";

export type SandboxDeps = {
  jail: Jail;
  log: Log;
  maxWaiting: number;
  /** The way out that the specification asks for; null when it asks for none. */
  openEgress(id: string, spec: SandboxSpec, decided: (decision: EgressDecision) => void): Promise<WayOut | null>;
  /** What the way out of the sandbox of this id has decided. */
  audited(id: string, decision: EgressDecision): void;
  /** An execution of this sandbox has ended. */
  ended(execution: Execution): void;
};

const CAUSES = { memory: "memory_limit", disk: "disk_limit", processes: "process_limit" } as const;

/** One sandbox: a jailed init, the executions that run in it and those that wait their turn. */
export class Sandbox implements ExecutionHost {
  readonly state: SandboxState;
  readonly jailed: JailedInit;
  limits: SandboxLimits;
  changes: WorkspaceChanges;
  /** Names of the Python layers of executions that start from now on. */
  layers: readonly string[];
  #spec: SandboxSpec;
  readonly #d: SandboxDeps;
  readonly #link: InitLink;
  readonly #running = new Map<number, Execution>();
  readonly #processOf = new Map<Execution, number>();
  readonly #waiting: Execution[] = [];
  readonly #spares: Spares;
  readonly #egress: WayOut | null;
  readonly #relay: Relay | null;
  #hasZygote = false;
  #lastProcess = 0;
  #ending: Promise<void> | null = null;

  /** Resolves when init answers. Throws AppError, and then leaves nothing behind. */
  static async start(id: string, spec: SandboxSpec, deps: SandboxDeps): Promise<Sandbox> {
    const startedMs = performance.now();
    let sandbox: Sandbox | null = null;
    const egress = await deps.openEgress(id, spec, (decision) => deps.audited(sandbox?.state.id ?? id, decision));
    const events: JailEvents = {
      limitPassed: (limit) => sandbox?.limitPassed(limit) ?? false,
      lookFailed: (error) => deps.log.error("sandbox.look_failed", { error }),
    };
    const jailed = await deps.jail.start(id, spec, events, egress?.dir ?? undefined).catch(async (error: unknown) => {
      await egress?.close();
      throw error;
    });
    const spawnedMs = performance.now();
    sandbox = new Sandbox(id, spec, jailed, egress, deps);
    try {
      await sandbox.#link.ready();
      await sandbox.#relay?.start();
    } catch (error) {
      await sandbox.end();
      throw new AppError("internal", "the sandbox could not be started", { cause: error });
    }
    const { timing } = sandbox.state;
    timing["spawn"] = spawnedMs - startedMs;
    timing["init"] = performance.now() - spawnedMs;
    return sandbox;
  }

  private constructor(id: string, spec: SandboxSpec, jailed: JailedInit, egress: WayOut | null, deps: SandboxDeps) {
    this.state = { id, status: "running", workspacePath: jailed.inside.workspace, timing: {}, pool: null };
    this.limits = spec.limits;
    this.jailed = jailed;
    this.changes = new WorkspaceChanges(jailed.workspaceDir);
    this.#spec = spec;
    this.#d = deps;
    this.#link = new InitLink(jailed, { frame: (frame) => this.#take(frame), gone: () => this.#lost() }, deps.log);
    this.#egress = egress;
    this.layers = spec.layers ?? [];
    const nextProcess = (): number => this.#nextProcess();
    this.#relay = (egress?.dir ?? null) === null ? null : new Relay(this.#link, jailed.inside.runtime, nextProcess);
    this.#spares = new Spares(spec, jailed.inside, this.#link, nextProcess);
    if (spec.runtimeType.startsWith("python")) this.#startZygote();
    else if (/^(nodejs|bun)/.test(spec.runtimeType)) this.#spares.fill();
  }

  /** Gives a sandbox that was started ahead to a session: name, limits and variables are bound now. */
  adopt(id: string, spec: SandboxSpec): this {
    const startedMs = performance.now();
    this.jailed.rebind?.(id, spec.limits);
    this.#d.log.info("sandbox.claimed", { by: id });
    this.state.id = id;
    this.limits = spec.limits;
    this.#spec = spec;
    this.layers = spec.layers ?? [];
    this.changes = new WorkspaceChanges(this.jailed.workspaceDir);
    this.state.timing = { claim: performance.now() - startedMs };
    return this;
  }

  get isAlone(): boolean {
    return this.#running.size <= 1;
  }

  /** Throws `queue_full` when no execution can be taken now. */
  checkRoom(): void {
    if (this.#running.size < this.#spec.maxRunning || this.#waiting.length < this.#d.maxWaiting) return;
    const { maxRunning } = this.#spec;
    throw new AppError("queue_full", `${maxRunning} executions run and ${this.#d.maxWaiting} wait already`, {
      retryAfterS: 1,
    });
  }

  /** Starts the execution, or has it wait its turn. */
  submit(execution: Execution): void {
    if (this.#running.size < this.#spec.maxRunning) return this.#start(execution, false);
    this.#waiting.push(execution);
    execution.wait();
  }

  #start(execution: Execution, waited: boolean): void {
    const { request } = execution;
    const env = {
      ...(this.#egress === null ? {} : proxyVariables(this.#egress.port)),
      ...this.#spec.env,
      ...request.env,
    };
    const { inside } = this.jailed;
    const paths = { ...inside, layers: this.layers.map((name) => `${inside.layersDir}/${name}`) };
    const plan = launchPlan(request, env, paths, execution.id);
    if (plan.mode === "zygote" && !this.#hasZygote) this.#startZygote();
    const spare = plan.mode === "spare" ? this.#spares.take() : null;
    const process = spare?.process ?? this.#nextProcess();
    this.#running.set(process, execution);
    this.#processOf.set(execution, process);
    // First, since it notes what the workspace is like before the program can change it.
    execution.start(waited);
    const refusal = this.#sendStart(process, plan, spare !== null, request.stdin);
    if (refusal !== null) return execution.startFailed(refusal);
    if (spare?.isSpawned === true) execution.spawned();
    this.#link.watch(() => this.fail("init does not answer"));
  }

  /** Null when it was sent, else why no process can be given this. */
  #sendStart(process: number, plan: LaunchPlan, isSpare: boolean, stdin: string): string | null {
    try {
      const inputs = inputFrames(process, plan.job, stdin);
      this.#link.send(...(isSpare ? inputs : [startFrame(process, plan), ...inputs]));
      return null;
    } catch (error) {
      if (error instanceof FrameError) return error.message;
      throw error;
    }
  }

  #startZygote(): void {
    this.#hasZygote = true;
    this.#link.send(zygoteFrame(zygoteCommand(this.#spec.preload, this.jailed.inside)));
  }

  #nextProcess(): number {
    this.#lastProcess += 1;
    return this.#lastProcess;
  }

  kill(execution: Execution): void {
    const process = this.#processOf.get(execution);
    if (process !== undefined) this.#link.send(encodeFrame(FrameType.KILL, process));
  }

  fail(why: string): void {
    this.#d.log.error("sandbox.failed", { why });
    this.jailed.kill();
  }

  memoryKills(): number {
    return this.jailed.memoryKills();
  }

  processRefusals(): number {
    return this.jailed.processRefusals();
  }

  mark(atMs: number): WorkspaceMark {
    return this.changes.mark(atMs);
  }

  changedSince(mark: WorkspaceMark): Artifact[] | Promise<Artifact[]> {
    return this.changes.since(mark);
  }

  ended(execution: Execution, { status, reason }: Verdict, isJournaled: boolean): void {
    const about = { execution_id: execution.id, request_id: execution.requestId };
    if (!isJournaled) this.#d.log.error("journal.no_room", about);
    this.#d.log.info("execution.ended", { ...about, status, reason, ms: execution.ageMs });
    const process = this.#processOf.get(execution);
    this.#d.ended(execution);
    if (process === undefined) return this.#leaveQueue(execution);
    this.#processOf.delete(execution);
    this.#running.delete(process);
    const next = this.state.status === "running" && this.#ending === null ? this.#waiting.shift() : undefined;
    if (next !== undefined) this.#start(next, true);
    else if (this.#running.size === 0) this.#link.unwatch();
  }

  #leaveQueue(execution: Execution): void {
    const place = this.#waiting.indexOf(execution);
    if (place >= 0) this.#waiting.splice(place, 1);
  }

  /** A watchdog of the jail found a limit passed: what runs is ended for it. */
  limitPassed(limit: SandboxLimit): boolean {
    this.#d.log.warn("sandbox.limit_passed", { limit });
    const isRunning = this.#running.size > 0;
    for (const execution of this.#running.values()) void execution.stop(CAUSES[limit]);
    return isRunning;
  }

  /** Ends every execution (`session_ended`) and every process, and gives back what the jail holds. Idempotent. */
  end(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<void> {
    const executions = [...this.#running.values(), ...this.#waiting];
    for (const execution of this.#waiting.slice()) void execution.stop("session_ended");
    for (const execution of this.#running.values()) execution.willStop("session_ended");
    this.jailed.kill();
    await this.#link.gone;
    await Promise.all(executions.map((execution) => execution.done));
    await this.jailed.dispose();
    await this.#egress?.close();
  }

  #lost(): void {
    if (this.#ending === null) this.#d.log.error("sandbox.lost");
    this.state.status = "lost";
    for (const execution of [...this.#waiting, ...this.#running.values()]) execution.lost();
  }

  #take(frame: Frame): void {
    if (this.#relay?.take(frame) === true) return;
    const execution = this.#running.get(frame.id);
    switch (frame.type) {
      case FrameType.STDOUT:
        return execution?.output("stdout", frame.payload);
      case FrameType.STDERR:
        return execution?.output("stderr", frame.payload);
      case FrameType.RESULT:
        return execution?.result(frame.payload);
      case FrameType.STARTED:
        return execution === undefined ? this.#spares.spawned(frame.id) : execution.spawned();
      case FrameType.EXIT:
        return execution === undefined ? this.#spares.gone(frame.id) : execution.exited(parseExit(frame.payload));
      case FrameType.START_FAILED:
        return this.#startFailed(frame, execution);
      case FrameType.KILLED:
        return execution?.killed();
      case FrameType.ZYGOTE_STATE:
        return this.#d.log.debug("zygote.state", { is_there: frame.payload[0] === 1 });
      case FrameType.PROTOCOL_ERROR:
        return this.#refused(frame, execution);
    }
  }

  #startFailed(frame: Frame, execution: Execution | undefined): void {
    const { errno, message } = parseStartFailed(frame.payload);
    if (execution === undefined) return this.#spares.gone(frame.id);
    execution.startFailed(`the interpreter could not be started: ${message}`, errno === constants.errno.EAGAIN);
  }

  #refused(frame: Frame, execution: Execution | undefined): void {
    const text = new TextDecoder().decode(frame.payload).slice(0, 500);
    this.#d.log.warn("init.protocol_error", { text, process: frame.id });
    if (execution === undefined) return;
    this.kill(execution);
    execution.startFailed(`the sandbox refused the execution: ${text}`);
  }
}
