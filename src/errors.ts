/** The closed list of error codes, which callers may rely on, each with its HTTP status. */
export const ERROR_STATUS = {
  bad_request: 400,
  malformed_json: 400,
  template_unknown: 400,
  image_unknown: 400,
  invalid_size: 400,
  invalid_path: 400,
  invalid_environment: 400,
  dependency_failed: 400,
  unauthorized: 401,
  forbidden_origin: 403,
  not_found: 404,
  session_not_found: 404,
  execution_not_found: 404,
  template_not_found: 404,
  file_not_found: 404,
  key_not_found: 404,
  method_not_allowed: 405,
  sync_timeout: 408,
  request_timeout: 408,
  session_exists: 409,
  session_ended: 409,
  template_exists: 409,
  template_in_use: 409,
  install_in_progress: 409,
  idempotency_conflict: 409,
  file_exists: 409,
  file_conflict: 409,
  key_exists: 409,
  body_too_large: 413,
  unsupported_media_type: 415,
  range_not_satisfiable: 416,
  validation_failed: 422,
  rate_limited: 429,
  queue_full: 429,
  session_limit: 429,
  execution_limit: 429,
  internal: 500,
  not_implemented: 501,
  executor_unavailable: 503,
  store_unavailable: 503,
  draining: 503,
  disk_full: 507,
} as const;

export type ErrorCode = keyof typeof ERROR_STATUS;

/** One entry of a 422 `detail`; `loc` starts with `body`, `query`, `path` or `header`. */
export type ValidationIssue = { type: string; loc: (string | number)[]; msg: string };

/** The one error type. `message` is for the caller; `cause` is for the log and never leaves the process. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly issues: ValidationIssue[] | undefined;
  /** Seconds to send as `Retry-After`, for 429 and 503. */
  readonly retryAfterS: number | undefined;
  /** No retry helps until an operator has changed something. */
  readonly isLasting: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; issues?: ValidationIssue[]; retryAfterS?: number; isLasting?: boolean } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.issues = options.issues;
    this.retryAfterS = options.retryAfterS;
    this.isLasting = options.isLasting ?? false;
  }

  get status(): number {
    return ERROR_STATUS[this.code];
  }
}
