import { AppError, type ErrorCode, type ValidationIssue } from "../errors.ts";
import { errorBody } from "./errors.ts";

const REQUEST_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
const ISSUE: ValidationIssue = {
  type: "greater_than_equal",
  loc: ["body", "timeout"],
  msg: "Input should be greater than or equal to 1",
};

/** What a message of each code may say. */
const MESSAGES: Record<ErrorCode, string> = {
  bad_request: "Last-Event-ID must be the number of an event",
  malformed_json: "the body is not valid JSON: Expected '}'",
  template_unknown: 'there is no template "java-basic"; GET /api/v1/templates lists them',
  image_unknown: "image example.com/tools:1 is not here: sandbox images import example.com/tools:1 rootfs.tar",
  invalid_size: 'memory must be a whole number with Mi or Gi, such as "512Mi"',
  invalid_path: "the path may not have . or .. in it",
  invalid_environment: "env_vars: loader variables (LD_*) are refused",
  dependency_failed: "No matching distribution found for requests==99",
  unauthorized: "the key is not valid",
  forbidden_origin: "requests from that Origin are refused; see CORS_ORIGINS",
  not_found: "there is no such route; see /docs",
  session_not_found: "there is no session sess_20260131_0a1b2c3d",
  execution_not_found: "there is no execution exec_20260131120000_0a1b2c3d",
  template_not_found: "there is no template java-basic",
  file_not_found: "there is no file out.txt",
  key_not_found: "there is no key ci",
  method_not_allowed: "PUT is not allowed here, but GET, POST, HEAD, OPTIONS",
  sync_timeout: "execution exec_20260131120000_0a1b2c3d has not ended within 300 s; it goes on",
  request_timeout: "the body came too slowly: nothing for 30 s, or less than 8192 bytes a second",
  session_exists: "session report-7 exists already",
  session_ended: "session sess_20260131_0a1b2c3d is terminated",
  template_exists: "template data-tools exists already",
  template_in_use: "a live session uses template data-tools",
  install_in_progress: "an installation runs in session sess_20260131_0a1b2c3d",
  idempotency_conflict: "this Idempotency-Key was sent with another execution",
  file_exists: "there is a file out.txt already",
  file_conflict: "out.txt is a directory",
  key_exists: "key ci exists already",
  body_too_large: "the body may have at most 16777216 bytes",
  unsupported_media_type: "the body must be JSON: send Content-Type: application/json",
  range_not_satisfiable: "the file has no such bytes",
  validation_failed: `body.timeout: ${ISSUE.msg}`,
  rate_limited: "at most 600 requests a minute",
  queue_full: "session sess_20260131_0a1b2c3d has 72 executions already",
  session_limit: "at most 20 live sessions",
  execution_limit: "at most 50 executions at once",
  internal: `internal error; the log has it under ${REQUEST_ID}`,
  not_implemented: "this server's object store has no presigned URLs",
  executor_unavailable: "the session's executor does not answer",
  store_unavailable: "the database does not answer",
  draining: "the executor is ending",
  disk_full: "the workspace's disk limit is reached",
};

/** An answer with the code, as it may look. */
export function errorExample(code: ErrorCode) {
  const error = new AppError(code, MESSAGES[code], code === "validation_failed" ? { issues: [ISSUE] } : {});
  return errorBody(error, error.message, REQUEST_ID);
}
