import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";

/** Work that is to be done now and then by one replica at a time. */
export type UpkeepPiece = {
  /** Of the piece in the database: the same in every replica. */
  name: string;
  everyMs: number;
  /** Does it, and may be cut off at any point: `signal` aborts when another replica may have it, or this one stops. */
  run(signal: AbortSignal): Promise<void>;
};

/** The right of `owner` to a piece until then (ISO 8601). */
export type UpkeepTurn = { name: string; owner: string; until: string };

/** Whose turn each piece is, for all replicas. Instants are ISO 8601. */
export interface UpkeepStore {
  /** Takes a piece that is due at `now`. One that claims to be due after `latest` was noted by a wrong clock and is due too. */
  take(turn: UpkeepTurn, now: string, latest: string): Promise<boolean>;
  /** Moves when the piece is due again; false when another has taken it. */
  hold(turn: UpkeepTurn): Promise<boolean>;
}

export type UpkeepDeps = {
  store: UpkeepStore;
  clock: Clock;
  log: Log;
  owner: string;
  pieces: readonly UpkeepPiece[];
};

const CHECK_MS = 30_000;
/** A replica that died over a piece keeps it from the others for this long. */
const TURN_MS = 60_000;

/** Does each piece when it is due and nobody else does it, one after the other. Rows are the truth: it keeps no plan. */
export class Upkeep {
  readonly #d: UpkeepDeps;
  readonly #stopping = new AbortController();
  #timer: ReturnType<typeof setInterval> | null = null;
  #checking: Promise<void> | null = null;

  constructor(deps: UpkeepDeps) {
    this.#d = deps;
  }

  start(): void {
    this.#timer = setInterval(() => void this.check(), CHECK_MS);
    void this.check();
  }

  /** Cuts off what is being done and resolves when it has stopped. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#checking;
  }

  /** Does what is due. Passes never overlap. */
  check(): Promise<void> {
    this.#checking ??= this.#checkAll().finally(() => (this.#checking = null));
    return this.#checking;
  }

  async #checkAll(): Promise<void> {
    for (const piece of this.#d.pieces) {
      if (this.#stopping.signal.aborted) return;
      try {
        await this.#check(piece);
      } catch (error) {
        this.#d.log.warn("upkeep.failed", { piece: piece.name, error });
      }
    }
  }

  async #check(piece: UpkeepPiece): Promise<void> {
    const { store, clock, log } = this.#d;
    const now = clock.now().toISOString();
    if (!(await store.take(this.#turn(piece, TURN_MS), now, this.#turn(piece, TURN_MS + piece.everyMs).until))) return;
    const lost = new AbortController();
    const hold = (): void => {
      store.hold(this.#turn(piece, TURN_MS)).then(
        (held) => held || lost.abort(),
        (error: unknown) => log.warn("upkeep.not_held", { piece: piece.name, error }),
      );
    };
    const timer = setInterval(hold, TURN_MS / 3);
    const startedMs = performance.now();
    let restMs = TURN_MS;
    try {
      await piece.run(AbortSignal.any([this.#stopping.signal, lost.signal]));
      restMs = this.#stopping.signal.aborted ? 0 : piece.everyMs;
    } finally {
      clearInterval(timer);
      await store.hold(this.#turn(piece, restMs));
    }
    log.info("upkeep.done", { piece: piece.name, ms: Math.round(performance.now() - startedMs) });
  }

  #turn({ name }: UpkeepPiece, ms: number): UpkeepTurn {
    return { name, owner: this.#d.owner, until: new Date(this.#d.clock.now().getTime() + ms).toISOString() };
  }
}
