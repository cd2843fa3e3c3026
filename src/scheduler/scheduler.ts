import type { Changes, Wakeups } from "../changes.ts";
import type { Clock } from "../clock.ts";
import type { Execution, ExecutionStore } from "../executions/execution.ts";
import type { Log } from "../log.ts";
import type { Provisioned, Provisioner } from "../provisioners/provisioner.ts";
import type { AuditStore } from "../sessions/audit.ts";
import type { LifetimeBounds } from "../sessions/deadline.ts";
import type { DependencyInstaller } from "../sessions/dependency-installer.ts";
import { isLive, leaseFrom, LIVE_STATUSES, type Lease, type Session, type SessionStore } from "../sessions/session.ts";
import { ExecutionFollower, type FollowerDeps } from "./follow-execution.ts";
import type { TemplateStore } from "../templates/template.ts";
import { JournalRoom } from "./journal-room.ts";
import { TunnelKeeper } from "./keep-tunnels.ts";
import { SessionReconciler, type StepOptions } from "./reconcile-session.ts";
import { WarmPoolKeeper } from "./warm-pools.ts";
import { within } from "../within.ts";

/**
 * `lease_expired`: an execution whose owner stopped renewing its lease was taken over; `sandbox_remade`: a live session had no
 * sandbox; `orphan_released`: a sandbox had no live session.
 */
export const CORRECTIONS = ["lease_expired", "sandbox_remade", "orphan_released"] as const;
export type Correction = (typeof CORRECTIONS)[number];

export type SchedulerDeps = {
  sessions: SessionStore;
  executions: ExecutionStore;
  templates: TemplateStore;
  provisioner: Provisioner;
  sessionChanges: Changes<Session>;
  executionChanges: Changes<Execution>;
  clock: Clock;
  log: Log;
  /** Name of this process in leases. */
  owner: string;
  leaseMs: number;
  creatingTimeoutMs: number;
  /** See FollowerDeps. */
  overdueMs?: number | undefined;
  bounds: LifetimeBounds;
  /** Called once for each execution that this process saw end. */
  executionEnded(execution: Execution): void;
  installer: DependencyInstaller;
  audit: AuditStore;
  /** Stores the files of a session that has ended where they end with its sandbox, which is released then. */
  storeFiles(session: Session): Promise<void>;
  /** Called once a sandbox was made for a new session, with the milliseconds that it took. */
  sandboxMade(session: Session, made: Provisioned, ms: number): void;
  /** Called for each thing that was not as the rows say and was put right. */
  corrected(what: Correction): void;
};

const RESYNC_MS = 2000;
const RENEW_MS = 5000;
const BATCH = 200;
/** How long a terminated session's executions may take to be stored as ended before the caller is answered all the same. */
const END_WAIT_MS = 5000;
/** How long the end of a session's sandbox is left to the replica that ended the session. */
const ENDING_MS = 10_000;
/** How long a pass waits for the steps that it began. */
const DUE_WAIT_MS = 2000;
/** How long steps that are under way may take at a stop, before their sessions are handed over all the same: they are safe to repeat. */
const STEPS_WAIT_MS = 5000;

/** Level-triggered: state lives in rows, a wake-up only says that one changed, and the resync finds what was missed. */
export class Scheduler implements Wakeups {
  readonly #d: SchedulerDeps;
  readonly #reconciler: SessionReconciler;
  readonly #followerDeps: FollowerDeps;
  readonly #journalRoom: JournalRoom;
  readonly #warmPools: WarmPoolKeeper;
  readonly #tunnels: TunnelKeeper;
  /** Executions that this process follows, by id. */
  readonly #followed = new Map<string, { follower: ExecutionFollower; done: Promise<void> }>();
  /** Of each session the last step, and what ends its waiting and that of those before it. */
  readonly #steps = new Map<string, { done: Promise<void>; waiting: AbortController }>();
  readonly #stopping = new AbortController();
  #isDraining = false;
  #timers: ReturnType<typeof setInterval>[] = [];
  #resyncing: Promise<void> | null = null;

  constructor(deps: SchedulerDeps) {
    this.#d = deps;
    this.#reconciler = new SessionReconciler({
      ...deps,
      changes: deps.sessionChanges,
      began: (session) => void this.#tunnels.hold(session),
      again: (id) => (this.#stopping.signal.aborted ? Promise.resolve() : this.#step(id)),
    });
    this.#journalRoom = new JournalRoom(deps);
    this.#tunnels = new TunnelKeeper(deps);
    this.#warmPools = new WarmPoolKeeper(deps.templates, deps.provisioner);
    this.#followerDeps = {
      ...deps,
      reconcile: (id) => this.#step(id, { sandboxLost: true }),
      ended: (execution) => {
        this.#journalRoom.ended(execution);
        deps.executionEnded(execution);
      },
    };
  }

  start(): void {
    this.#timers = [setInterval(() => void this.resync(), RESYNC_MS), setInterval(() => void this.#renew(), RENEW_MS)];
    void this.resync();
  }

  /** Claims nothing more, and goes on with what it holds and what callers give it. */
  drain(): void {
    this.#isDraining = true;
  }

  /** Lets go of what is followed and hands over every lease that is left: another replica's next resync takes them. */
  async stop(): Promise<void> {
    this.drain();
    for (const timer of this.#timers) clearInterval(timer);
    this.#stopping.abort();
    await Promise.allSettled([...this.#followed.values()].map(({ done }) => done));
    await within(STEPS_WAIT_MS, this.#tunnels.stop());
    await this.handOver();
    await within(
      STEPS_WAIT_MS,
      Promise.allSettled([...[...this.#steps.values()].map(({ done }) => done), this.#resyncing]),
    );
    await this.handOver();
  }

  /**
   * Frees every lease of this process. It still follows what it follows, for callers who wait here: another replica that
   * does so too stores the same.
   */
  async handOver(): Promise<void> {
    const { executions, sessions, owner, log } = this.#d;
    const released = await Promise.allSettled([executions.releaseAll(owner), sessions.releaseAll(owner)]);
    for (const { reason } of released.filter((one) => one.status === "rejected"))
      log.warn("scheduler.not_handed_over", { error: reason, note: "others take the work when the leases end" });
  }

  async session(id: string, options: Pick<StepOptions, "filesGo"> = {}): Promise<void> {
    try {
      await this.#stopWaiting(id);
      await this.#step(id, options);
      await this.#executionsEnded(id);
    } catch (error) {
      this.#d.log.warn("session.step_failed", { session_id: id, error });
    }
  }

  /** Of a session that has ended, and of those executions that this process follows; for at most END_WAIT_MS. */
  async #executionsEnded(id: string): Promise<void> {
    const row = await this.#d.sessions.get(id);
    if (row === null || isLive(row)) return;
    const followed = [...this.#followed.values()].filter(({ follower }) => follower.execution.session_id === id);
    const ends = followed.map(({ done }) => done);
    if (ends.length > 0) await within(END_WAIT_MS, Promise.allSettled(ends));
  }

  execution(execution: Execution): void {
    if (this.#followed.has(execution.id) || this.#stopping.signal.aborted) return;
    const follower = new ExecutionFollower(this.#followerDeps, execution, this.#stopping.signal);
    const done = follower
      .run()
      .catch((error: unknown) => this.#d.log.error("execution.lost_track", { execution_id: execution.id, error }))
      .finally(() => this.#stopping.signal.aborted || this.#followed.delete(execution.id));
    this.#followed.set(execution.id, { follower, done });
  }

  followed(id: string): Execution | undefined {
    return this.#followed.get(id)?.follower.execution;
  }

  /** A step that waits for the sandbox of a session that has ended meanwhile waits no longer. */
  async #stopWaiting(id: string): Promise<void> {
    const step = this.#steps.get(id);
    if (step === undefined) return;
    const row = await this.#d.sessions.get(id);
    if (row === null || !isLive(row)) step.waiting.abort();
  }

  /** Steps of one session never overlap; a failed one is logged and found again by the resync. */
  #step(id: string, options: Omit<StepOptions, "signal"> = {}): Promise<void> {
    const { done: before, waiting } = this.#steps.get(id) ?? {
      done: Promise.resolve(),
      waiting: new AbortController(),
    };
    const { signal } = waiting;
    const done = before
      .then(() => this.#reconciler.step(id, { ...options, signal }))
      // That it waits no longer for the sandbox of a session which has ended is no failure.
      .catch((error: unknown) =>
        this.#d.log[signal.aborted ? "debug" : "warn"]("session.step_failed", { session_id: id, error }),
      )
      .finally(() => {
        if (this.#steps.get(id)?.done === done) this.#steps.delete(id);
      });
    this.#steps.set(id, { done, waiting });
    return done;
  }

  /** One pass over everything that a wake-up may have missed. Passes never overlap. */
  resync(): Promise<void> {
    if (this.#isDraining) return this.#resyncing ?? Promise.resolve();
    this.#resyncing ??= this.#resyncOnce()
      .catch((error: unknown) => this.#d.log.warn("scheduler.resync_failed", { error }))
      .finally(() => (this.#resyncing = null));
    return this.#resyncing;
  }

  async #resyncOnce(): Promise<void> {
    const now = this.#d.clock.now().toISOString();
    await Promise.all([this.#stepDue(now), this.#adoptUnowned(now)]);
    void this.#journalRoom.pass();
    await this.#compareSandboxes();
    await this.#tunnels.resync();
    await this.#warmPools.resync();
  }

  async #stepDue(now: string): Promise<void> {
    const due = (await this.#d.sessions.due(now, BATCH)).filter((id) => !this.#steps.has(id));
    // One may wait for an executor in a Pod, which is no reason for the sessions of others to do so.
    await within(DUE_WAIT_MS, Promise.all(due.map((id) => this.#step(id))));
  }

  async #adoptUnowned(now: string): Promise<void> {
    for (const { id, isExpired } of await this.#d.executions.unowned(now, BATCH)) await this.#adopt(id, now, isExpired);
  }

  async #adopt(id: string, now: string, isExpired: boolean): Promise<void> {
    if (this.#isDraining || this.#followed.has(id)) return;
    if (!(await this.#d.executions.claim(id, this.#lease(), now))) return;
    if (isExpired) this.#d.corrected("lease_expired");
    const execution = await this.#d.executions.get(id);
    if (execution !== null) this.execution(execution);
  }

  /** Running sessions without a sandbox get one; sandboxes without a live session are released. */
  async #compareSandboxes(): Promise<void> {
    const existing = await this.#d.provisioner.list();
    let after = "";
    for (;;) {
      const ids = await this.#d.sessions.idsByStatus(LIVE_STATUSES, after, BATCH);
      for (const id of ids) {
        const state = existing.get(id);
        existing.delete(id);
        if (state !== "running" && !this.#steps.has(id)) void this.#step(id, { sandboxLost: true });
      }
      if (ids.length < BATCH) break;
      after = ids.at(-1) ?? after;
    }
    for (const id of existing.keys()) {
      const row = await this.#d.sessions.get(id);
      if (row !== null && (isLive(row) || this.#steps.has(id) || this.#isJustEnding(row))) continue;
      this.#d.log.info("sandbox.orphan_released", { session_id: id });
      this.#d.corrected("orphan_released");
      if (row === null) await this.#d.provisioner.release(id, { deleteWorkspace: true });
      else void this.#step(id);
    }
  }

  /** Whoever ended it is about to store its files and to release its sandbox. */
  #isJustEnding({ completed_at: at }: Session): boolean {
    return at !== null && this.#d.clock.now().getTime() - Date.parse(at) < ENDING_MS;
  }

  #lease(): Lease {
    return leaseFrom(this.#d.clock.now(), this.#d.owner, this.#d.leaseMs);
  }

  /** Renews leases of what is followed alone: what this process owns but lost track of is found again when its lease has ended. */
  async #renew(): Promise<void> {
    try {
      await Promise.all([this.#d.executions.renew([...this.#followed.keys()], this.#lease()), this.#tunnels.renew()]);
    } catch (error) {
      this.#d.log.warn("scheduler.renew_failed", { error });
    }
  }
}
