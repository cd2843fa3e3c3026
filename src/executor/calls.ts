import { AppError } from "../errors.ts";
import { parseWithin } from "../json-text.ts";
import { REQUEST_ID_HEADER, requestIdInScope } from "../request-scope.ts";
import { boundedText, refusalOf, unavailable } from "./answer.ts";
import { Pulse } from "./pulse.ts";

/** Where an executor is: a socket on this host, or an address whose every request needs the token. */
export type ExecutorAddress = { unix: string } | PodAddress;
/**
 * `indexUrl`: the package index of sessions that name none. `privateRanges`: the private and special addresses that rules of
 * sessions may name; absent: none. The control plane dials them, whose address what is there may trust more than a Pod's.
 */
export type PodAddress = { url: string; token: string; indexUrl: string; privateRanges?: readonly string[] };

/** Most bytes in an answer of an executor in a Pod, where anybody may be the one that answers. */
export const MAX_ANSWER_BYTES = 1024 ** 2;
/** Most objects and lists in it. */
const MAX_ANSWER_OBJECTS = 10_000;
/** How long it may take to answer what needs no program to run. */
export const ANSWER_MS = 30_000;

export type Call = {
  method?: string;
  json?: unknown;
  body?: ReadableStream<Uint8Array> | string;
  headers?: Headers;
  signal?: AbortSignal | undefined;
  /** In a Pod, milliseconds until the whole answer must be there; absent: as long as it takes. */
  withinMs?: number | undefined;
  maxBytes?: number;
  /** Objects and lists in the answer. */
  maxObjects?: number;
};

/** Calls of an executor in another process, over HTTP. */
export class Calls {
  readonly #base: string;
  readonly #transport: { unix?: string };
  readonly #authorization: string | null;
  /** Of an executor on another host; the end of one on this host is told by its socket. */
  readonly #pulse: Pulse | null;

  constructor(address: ExecutorAddress) {
    this.#base = "unix" in address ? "http://executor" : address.url.replace(/\/$/, "");
    this.#transport = "unix" in address ? { unix: address.unix } : {};
    this.#authorization = "unix" in address ? null : `Bearer ${address.token}`;
    this.#pulse = "unix" in address ? null : new Pulse((signal) => this.json("/health", { signal }));
  }

  /** The answer's JSON, which is believed to be of this type. Throws AppError. */
  async json<T>(path: string, call: Call = {}): Promise<T> {
    return this.read(await this.call(path, call), call);
  }

  /** A call whose answer says nothing but that it was done. */
  async tell(path: string, call: Call): Promise<void> {
    const { body } = await this.call(path, { withinMs: ANSWER_MS, ...call });
    await body?.cancel();
  }

  /** The JSON of an answer that is there. Throws AppError. */
  async read<T>(
    response: Response,
    { maxBytes = MAX_ANSWER_BYTES, maxObjects = MAX_ANSWER_OBJECTS }: Call,
  ): Promise<T> {
    try {
      if (this.#authorization === null) return (await response.json()) as T;
      return parseWithin(await boundedText(response, maxBytes), maxObjects) as T;
    } catch (error) {
      throw unavailable(error);
    }
  }

  /** Throws AppError for every status but 2xx, 304 and those of `also`. */
  async call(path: string, call: Call = {}, also: readonly number[] = []): Promise<Response> {
    const headers = new Headers(call.headers);
    const requestId = requestIdInScope();
    if (requestId !== undefined) headers.set(REQUEST_ID_HEADER, requestId);
    if (this.#authorization !== null) headers.set("Authorization", this.#authorization);
    const body = call.body ?? (call.json === undefined ? undefined : JSON.stringify(call.json));
    const { signal = this.#limit(call) } = call;
    let response: Response;
    try {
      response = await fetch(this.#base + path, {
        ...this.#transport,
        method: call.method ?? "GET",
        headers,
        redirect: "manual",
        // No executor of ours compresses, and what another one sends may become a thousand times as much.
        decompress: false,
        // An execution may be silent for an hour.
        timeout: false,
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      call.signal?.throwIfAborted();
      throw error instanceof AppError ? error : unavailable(error);
    }
    if (response.ok || response.status === 304 || also.includes(response.status)) return response;
    throw await refusalOf(response);
  }

  /** An executor on this host is the host's own, and a slow one is waited for. */
  #limit({ withinMs }: Call): AbortSignal | undefined {
    return this.#authorization === null || withinMs === undefined ? undefined : AbortSignal.timeout(withinMs);
  }

  /**
   * An answer that takes as long as a program runs. A connection that breaks is `executor_unavailable`, and so is one whose
   * other end is gone without a word.
   */
  async stream(path: string, call: Call): Promise<ReadableStream<Uint8Array>> {
    const gone = new AbortController();
    const limit = call.signal ?? this.#limit(call);
    const signals = [limit, this.#pulse === null ? undefined : gone.signal].filter((one) => one !== undefined);
    const signal = signals.length > 1 ? AbortSignal.any(signals) : signals[0];
    const waitFor = async <T>(work: Promise<T>): Promise<T> => {
      try {
        return await (this.#pulse?.during(work) ?? work);
      } catch (error) {
        gone.abort();
        call.signal?.throwIfAborted();
        throw error instanceof AppError ? error : unavailable(error);
      }
    };
    const response = await waitFor(this.call(path, { ...call, signal }));
    const reader = (response.body ?? new Blob([]).stream()).getReader();
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          try {
            const { done, value } = await waitFor(reader.read());
            if (done) controller.close();
            else controller.enqueue(value);
          } catch (error) {
            controller.error(error);
          }
        },
        cancel: (reason) => reader.cancel(reason),
      },
      { highWaterMark: 0 },
    );
  }
}
