import { AppError } from "./errors.ts";
import { ReferenceViolation, UniqueViolation } from "./stores/sql.ts";

/** The same store, with `failed` called for every call that it could not serve; answers such as "taken" are no failures. */
export function reportFailures<T extends object>(store: T, failed: () => void): T {
  const wrapped = new Map<PropertyKey, unknown>();
  const note = (error: unknown): void => {
    if (isFailure(error)) failed();
  };
  const wrap = (call: (...values: unknown[]) => unknown) => {
    return (...values: unknown[]): unknown => {
      const answer = call.apply(store, values);
      if (answer instanceof Promise) answer.catch(note);
      return answer;
    };
  };
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (!wrapped.has(name)) wrapped.set(name, wrap(value as (...values: unknown[]) => unknown));
      return wrapped.get(name);
    },
  });
}

function isFailure(error: unknown): boolean {
  if (error instanceof UniqueViolation || error instanceof ReferenceViolation) return false;
  return !(error instanceof AppError) || error.status >= 500;
}
