import type { Connection } from "mysql2";
import { Unreachable } from "./failure.ts";
import { within } from "../../within.ts";

type Open = () => Promise<Connection>;
type Waiter = { take: (connection: Connection) => void; refuse: (error: unknown) => void };

/** Most connections of one process; ten replicas stay below MariaDB's usual limit of 151. */
const SIZE = 10;
/** Most callers that wait for one. */
const MAX_WAITING = 512;
const WAIT_MS = 5000;
/** A connection that was not used for longer is asked for a sign of life first, as the server may have left meanwhile. */
const TRUSTED_MS = 250;
const PING_MS = 1000;
/** How long after a connection could not be made the next is tried; callers in between are refused at once. */
const PAUSE_MS = 250;

/** Connections to one database, made as they are needed, each used by one caller at a time. */
export class Pool {
  readonly #open: Open;
  /** The one used last is at the end. */
  readonly #idle: Connection[] = [];
  readonly #usedAt = new WeakMap<Connection, number>();
  readonly #ended = new WeakSet<Connection>();
  readonly #waiting: Waiter[] = [];
  /** Open, or being made. */
  #count = 0;
  #making = 0;
  /** Why the last connection could not be made; after a pause one caller tries again, for all. */
  #refusal: { error: Unreachable; until: number; isTried: boolean } | null = null;
  #closed = false;

  /** `first`: one that is open already. */
  constructor(open: Open, first: Connection) {
    this.#open = open;
    this.#count = 1;
    this.#giveBack(this.#watched(first));
  }

  #watched(connection: Connection): Connection {
    connection.on("error", () => this.#ended.add(connection));
    connection.on("end", () => this.#ended.add(connection));
    return connection;
  }

  /**
   * Runs `work` with a connection of its own; `discard` says of its error that the connection is not to be used again.
   * Throws Unreachable when none can be had.
   */
  async use<T>(work: (connection: Connection) => Promise<T>, discard: (error: unknown) => boolean): Promise<T> {
    const connection = await this.#take();
    try {
      const result = await work(connection);
      this.#giveBack(connection);
      return result;
    } catch (error) {
      if (discard(error)) this.#drop(connection);
      else this.#giveBack(connection);
      throw error;
    }
  }

  /** Has every idle connection asked for a sign of life before it is used again. */
  suspect(): void {
    for (const connection of this.#idle) this.#usedAt.set(connection, Number.NEGATIVE_INFINITY);
  }

  async #take(): Promise<Connection> {
    if (this.#closed) throw new Unreachable("the pool is closed");
    for (let connection = this.#idle.pop(); connection !== undefined; connection = this.#idle.pop()) {
      if (await this.#isAlive(connection)) return connection;
      // The others are as old: asking each would keep the caller waiting.
      for (const one of [connection, ...this.#idle.splice(0)]) this.#drop(one);
    }
    if (this.#count < SIZE) {
      try {
        return await this.#make();
      } catch (error) {
        if (this.#count === this.#making) throw error;
      }
    }
    if (this.#waiting.length >= MAX_WAITING) throw new Unreachable("too many callers wait for a connection");
    return this.#wait();
  }

  async #isAlive(connection: Connection): Promise<boolean> {
    if (this.#ended.has(connection)) return false;
    if (performance.now() - (this.#usedAt.get(connection) ?? 0) < TRUSTED_MS) return true;
    const answer = new Promise<boolean>((resolve) => {
      connection.ping((error: unknown) => resolve(!error));
    });
    return (await within(PING_MS, answer)) ?? false;
  }

  async #make(): Promise<Connection> {
    const refusal = this.#refusal;
    if (refusal !== null && (refusal.isTried || performance.now() < refusal.until)) throw refusal.error;
    if (refusal !== null) refusal.isTried = true;
    this.#count++;
    this.#making++;
    try {
      const connection = this.#watched(await this.#open());
      this.#refusal = null;
      return connection;
    } catch (error) {
      this.#count--;
      const unreachable = new Unreachable(error);
      this.#refusal = { error: unreachable, until: performance.now() + PAUSE_MS, isTried: false };
      if (this.#count < this.#making) for (const waiter of this.#waiting.splice(0)) waiter.refuse(unreachable);
      throw unreachable;
    } finally {
      this.#making--;
    }
  }

  #wait(): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(new Unreachable("no connection came free in time"));
      }, WAIT_MS);
      const waiter: Waiter = {
        take: (connection) => {
          clearTimeout(timer);
          resolve(connection);
        },
        refuse: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.#waiting.push(waiter);
    });
  }

  #giveBack(connection: Connection): void {
    if (this.#closed || this.#ended.has(connection)) return this.#drop(connection);
    this.#usedAt.set(connection, performance.now());
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#idle.push(connection);
    else waiter.take(connection);
  }

  #drop(connection: Connection): void {
    this.#count--;
    connection.destroy();
    const waiter = this.#waiting.shift();
    if (waiter !== undefined) this.#make().then(waiter.take, waiter.refuse);
  }

  /** Ends the idle connections now and the others when they are given back. */
  close(): void {
    this.#closed = true;
    for (const waiter of this.#waiting.splice(0)) waiter.refuse(new Unreachable("the pool is closed"));
    for (const connection of this.#idle.splice(0)) this.#drop(connection);
  }
}
