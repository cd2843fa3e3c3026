import { AppError } from "../../errors.ts";
import { KubernetesError } from "./client.ts";

/** What of the API server's refusals another try may change is `executor_unavailable`; quota and policy are not. */
export function asAppError(error: unknown, what: string): unknown {
  if (!(error instanceof KubernetesError)) return error;
  const { status, message } = error;
  const isPassing = status === 0 || status === 401 || status === 429 || status >= 500 || error.reason === "Conflict";
  if (isPassing) return new AppError("executor_unavailable", `${what}: ${message}`, { cause: error, retryAfterS: 1 });
  return new AppError("bad_request", `${what}: ${message}`.slice(0, 1000), { cause: error });
}
