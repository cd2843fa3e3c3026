import { newRequestId } from "../id.ts";
import { requestIdOf } from "../request-scope.ts";
import { arrived, arriving } from "./arriving.ts";
import type { Exchange } from "./endpoint.ts";
import type { Watched } from "./key-watch.ts";

const NEVER = new AbortController().signal;

/** How a server lets a connection stay open without traffic: seconds, 0 for ever. */
export type IdleTimeout = (request: Request, seconds: number) => void;

/** How a server that stops ends what it holds open: the streams first, then whoever waits for something to happen. */
export type StopSignals = { streams: AbortSignal; waits: AbortSignal };

/** What requests have in common. `bodyPatienceMs`: how long a body may bring nothing. */
export type ExchangeTerms = {
  maxBodyBytes: number;
  bodyPatienceMs: number;
  stop: StopSignals;
  idleTimeout: IdleTimeout;
};

/** A request being answered, with what belongs to it alone. */
export class LiveExchange implements Exchange {
  readonly request: Request;
  readonly path: string;
  readonly search: string;
  readonly requestId: string;
  readonly startedAt = performance.now();
  readonly maxBodyBytes: number;
  tenant = "";
  isHeldOpen = false;
  params: Record<string, string> = {};
  query: unknown = null;
  body: unknown = null;
  member: unknown = null;
  /** Set once it is known who calls. */
  watch: (() => Watched) | null = null;
  readonly #stop: StopSignals;
  readonly #idleTimeout: IdleTimeout;
  readonly #bodyPatienceMs: number;
  #signal: AbortSignal | null = null;
  #watched: Watched | null = null;

  constructor(request: Request, terms: ExchangeTerms) {
    this.request = request;
    this.maxBodyBytes = terms.maxBodyBytes;
    this.#bodyPatienceMs = terms.bodyPatienceMs;
    this.#stop = terms.stop;
    this.#idleTimeout = terms.idleTimeout;
    const { url } = request;
    const pathAt = url.indexOf("/", url.indexOf("//") + 2);
    const searchAt = url.indexOf("?", pathAt);
    this.path = searchAt < 0 ? url.slice(pathAt) : url.slice(pathAt, searchAt);
    this.search = searchAt < 0 ? "" : url.slice(searchAt);
    this.requestId = requestIdOf(request.headers) ?? newRequestId();
  }

  get signal(): AbortSignal {
    return (this.#signal ??= AbortSignal.any([this.request.signal, this.#stop.waits]));
  }

  get streamSignal(): AbortSignal {
    return AbortSignal.any([this.request.signal, this.#stop.streams]);
  }

  get revoked(): AbortSignal {
    this.#watched ??= this.watch?.() ?? null;
    return this.#watched?.signal ?? NEVER;
  }

  readonly receive = (): ReadableStream<Uint8Array> => {
    if (this.request.body === null) return new Blob([]).stream();
    // What arrives does not count as traffic for the connection's idle time-out.
    this.keepOpen();
    return arriving(this.request.body, this.#bodyPatienceMs);
  };

  readonly receiveText = (): Promise<string> => {
    return arrived(this.request.text(), this.#bodyPatienceMs);
  };

  keepOpen(): void {
    this.isHeldOpen = true;
    this.#idleTimeout(this.request, 0);
  }

  /** Gives the connection its usual idle time-out back, and up what was held for the call. */
  release(seconds: number): void {
    this.#watched?.release();
    if (this.isHeldOpen) this.#idleTimeout(this.request, seconds);
  }
}
