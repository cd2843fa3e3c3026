import { AppError, ERROR_STATUS, type ErrorCode } from "../errors.ts";
import { HeldBuffer } from "../held-buffer.ts";
import { REFUSAL_CODE } from "./protocol.ts";

const MAX_REFUSAL_BYTES = 64 * 1024;

/** A body that may be anybody's: one that is longer is cut off. */
export async function boundedText(response: Response, maxBytes: number): Promise<string> {
  const held = new HeldBuffer();
  try {
    for await (const chunk of response.body ?? []) {
      if (held.size + chunk.length > maxBytes)
        throw new Error(`the executor's answer is longer than ${maxBytes} bytes`);
      held.add(chunk);
    }
    return new TextDecoder().decode(held.take(new Uint8Array()));
  } finally {
    held.clear();
  }
}

/** The error that an answer which is none of the expected stands for. */
export async function refusalOf(response: Response): Promise<AppError> {
  const body = await boundedText(response, MAX_REFUSAL_BYTES).catch(() => "");
  const refusal = parseRefusal(body) ?? parseCode(response.headers.get(REFUSAL_CODE));
  const retryAfter = Number(response.headers.get("retry-after") ?? Number.NaN);
  const options = Number.isNaN(retryAfter) ? {} : { retryAfterS: retryAfter };
  if (refusal === null) return new AppError("internal", `the executor answered ${response.status}`, options);
  return new AppError(refusal.code, refusal.message, options);
}

type Refusal = { code: ErrorCode; message: string };

function parseRefusal(text: string): Refusal | null {
  try {
    const { code, message } = JSON.parse(text) as { code?: unknown; message?: unknown };
    return typeof code === "string" && code in ERROR_STATUS
      ? { code: code as ErrorCode, message: String(message) }
      : null;
  } catch {
    // Not from an executor, or an answer without a body.
    return null;
  }
}

function parseCode(code: string | null): Refusal | null {
  return code !== null && code in ERROR_STATUS
    ? { code: code as ErrorCode, message: `the executor refuses it: ${code}` }
    : null;
}

/** What any failure to talk to an executor is. */
export function unavailable(cause: unknown): AppError {
  return new AppError("executor_unavailable", "the executor can't be reached", { cause, retryAfterS: 1 });
}
