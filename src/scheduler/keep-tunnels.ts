import type { Clock } from "../clock.ts";
import type { EgressDecision } from "../executor/protocol.ts";
import type { Log } from "../log.ts";
import type { OpenTunnel, Provisioner } from "../provisioners/provisioner.ts";
import type { AuditStore } from "../sessions/audit.ts";
import { leaseFrom, type Lease, type Session, type SessionStore } from "../sessions/session.ts";

export type TunnelKeeperDeps = {
  sessions: SessionStore;
  provisioner: Provisioner;
  audit: AuditStore;
  clock: Clock;
  log: Log;
  owner: string;
  leaseMs: number;
};

const BATCH = 200;
/** Decisions that wait to be stored; those after them are said to be lost. */
const MAX_UNSTORED = 10_000;
const STORE_RETRY_MS = 500;

/**
 * Keeps a tunnel to each running session that may connect to something, where connections leave through tunnels. The session's
 * lease says which replica does: it is held as long as the session runs, and taken over when its holder dies.
 */
export class TunnelKeeper {
  readonly #d: TunnelKeeperDeps;
  /** By session; null while one is being opened. */
  readonly #held = new Map<string, OpenTunnel | null>();
  readonly #unstored: { sessionId: string; decision: EgressDecision }[] = [];
  #storing: Promise<void> | null = null;
  #isStopped = false;

  constructor(deps: TunnelKeeperDeps) {
    this.#d = deps;
  }

  /** Opens the tunnel of a session that begins to run, whose lease is this process's own. */
  async hold(session: Session): Promise<void> {
    const { provisioner, sessions, clock, log } = this.#d;
    if (provisioner.openTunnel === undefined || session.network.length === 0) return;
    if (this.#isStopped || this.#held.has(session.id)) return;
    this.#held.set(session.id, null);
    let tunnel: OpenTunnel | null = null;
    try {
      if (await sessions.claim(session.id, this.#lease(), clock.now().toISOString()))
        tunnel = await provisioner.openTunnel(session, (decision) => this.#decided(session.id, decision));
    } catch (error) {
      log.warn("tunnel.not_opened", { session_id: session.id, error });
      // Another replica may be luckier.
      await sessions.release(session.id, this.#d.owner).catch(() => {});
    }
    if (tunnel === null || this.#isStopped) {
      tunnel?.close();
      this.#held.delete(session.id);
      return;
    }
    log.info("tunnel.opened", { session_id: session.id });
    this.#held.set(session.id, tunnel);
    void tunnel.closed.then((because) => {
      log.info("tunnel.closed", { session_id: session.id, because });
      if (this.#held.get(session.id) === tunnel) this.#held.delete(session.id);
    });
  }

  /** Opens the tunnels that are missing and nobody else holds, and closes those that are wanted no more or are another's now. */
  async resync(): Promise<void> {
    if (this.#d.provisioner.openTunnel === undefined) return;
    const before = new Set(this.#held.keys());
    const wanted = await this.#wanted();
    for (const id of before) if (!wanted.has(id)) this.#held.get(id)?.close();
    const missing = [...wanted].filter((id) => !this.#held.has(id));
    await Promise.all(missing.map((id) => this.#reopen(id)));
  }

  async #wanted(): Promise<Set<string>> {
    const { sessions, owner, clock } = this.#d;
    const found = new Set<string>();
    for (let after = ""; ;) {
      const ids = await sessions.idsToConnect(owner, clock.now().toISOString(), after, BATCH);
      for (const id of ids) found.add(id);
      if (ids.length < BATCH) return found;
      after = ids.at(-1) ?? after;
    }
  }

  async #reopen(id: string): Promise<void> {
    const session = await this.#d.sessions.get(id);
    if (session?.status === "running") await this.hold(session);
  }

  async renew(): Promise<void> {
    if (this.#held.size > 0) await this.#d.sessions.renew([...this.#held.keys()], this.#lease());
  }

  /** Closes every tunnel; their leases are for the caller to free. Resolves when what was decided is stored, or can't be. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const tunnel of this.#held.values()) tunnel?.close();
    await this.#storing;
  }

  #lease(): Lease {
    return leaseFrom(this.#d.clock.now(), this.#d.owner, this.#d.leaseMs);
  }

  #decided(sessionId: string, decision: EgressDecision): void {
    if (this.#unstored.length >= MAX_UNSTORED)
      return this.#d.log.error("audit.not_written", { session_id: sessionId, decision });
    this.#unstored.push({ sessionId, decision });
    this.#storing ??= this.#store().finally(() => (this.#storing = null));
  }

  async #store(): Promise<void> {
    for (let first = this.#unstored[0]; first !== undefined; first = this.#unstored[0]) {
      try {
        await this.#d.audit.add(first.sessionId, first.decision);
        this.#unstored.shift();
      } catch (error) {
        this.#d.log.warn("audit.waiting", { error });
        if (this.#isStopped) return;
        await Bun.sleep(STORE_RETRY_MS);
      }
    }
  }
}
