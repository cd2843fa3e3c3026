import { AsyncLocalStorage } from "node:async_hooks";

const scope = new AsyncLocalStorage<string>();

/** Header by which a request tells its id, to this service and on to an executor. */
export const REQUEST_ID_HEADER = "x-request-id";

/** Runs `work`; what it starts knows the request that it belongs to, also later and in timers. */
export function withRequestId<T>(requestId: string, work: () => T): T {
  return scope.run(requestId, work);
}

/** Id of the request that led here; undefined for what the service does by itself. */
export function requestIdInScope(): string | undefined {
  return scope.getStore();
}

/** A request's own id, if it has a sane one. */
export function requestIdOf(headers: Headers): string | null {
  const given = headers.get(REQUEST_ID_HEADER);
  return given !== null && /^[A-Za-z0-9._-]{1,128}$/.test(given) ? given : null;
}
