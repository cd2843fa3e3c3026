import { STATUS_CODES } from "node:http";
import { AppError, type ErrorCode, type ValidationIssue } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Reply } from "./endpoint.ts";

/** Longer messages are cut, so that no answer repeats a large input. */
const MAX_MESSAGE = 8192;

/** The one shape of an error (contract, Conventions). */
type ErrorBody = {
  error: string;
  code: string;
  message: string;
  detail: string | ValidationIssue[];
  request_id: string;
};

/** An error whose answer has headers of its own. */
export class ErrorWithHeaders extends AppError {
  readonly headers: Record<string, string>;

  constructor(code: ErrorCode, message: string, headers: Record<string, string>) {
    super(code, message);
    this.headers = headers;
  }
}

/** The answer to a failed request. What the caller must not see of it goes to the log under the request id. */
export function errorReply(thrown: unknown, requestId: string, log: Log): Reply {
  const error = thrown instanceof AppError ? thrown : new AppError("internal", "internal error", { cause: thrown });
  if (error.code === "internal") log.error("http.failed", { error: error.cause ?? error });
  else if (error.status >= 500) log.warn("http.unavailable", { code: error.code, error });
  const message = error.code === "internal" ? `internal error; the log has it under ${requestId}` : error.message;
  return {
    status: error.status,
    code: error.code,
    json: errorBody(error, message, requestId),
    headers: headersOf(error),
  };
}

/** The body of an error's answer. */
export function errorBody(error: AppError, message: string, requestId: string): ErrorBody {
  const shown = message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message;
  return {
    error: STATUS_CODES[error.status] ?? "Error",
    code: error.code,
    message: shown,
    detail: error.issues ?? shown,
    request_id: requestId,
  };
}

function headersOf(error: AppError): Record<string, string> {
  if (error instanceof ErrorWithHeaders) return error.headers;
  // What it still sends is not the next request.
  if (error.code === "request_timeout") return { Connection: "close" };
  if (error.status === 401) return { "WWW-Authenticate": "Bearer" };
  if (error.status !== 429 && error.status !== 503) return {};
  return { "Retry-After": String(Math.max(1, Math.ceil(error.retryAfterS ?? 1))) };
}
