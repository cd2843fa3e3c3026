import { memberOf, type RawJson } from "../json-text.ts";

/** What an execution said on its result channel (fd 4). It is the program's own word: nothing but itself depends on it. */
export type ExecutionResult =
  | { kind: "none" }
  /** The handler's value, as JSON on one line. */
  | { kind: "value"; json: RawJson | "null" }
  | { kind: "exception" | "invalid_result"; message: string };

const LIMIT_BYTES = 10 * 1024 * 1024;
const MESSAGE_LIMIT = 4096;
const NONE: ExecutionResult = { kind: "none" };

/** Collects one JSON document, `{"return_value": …}` or `{"error": {"kind", "message"}}`, of at most 10 MiB. */
export class ResultChannel {
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #read: ExecutionResult | null = null;

  /** Copies the chunk; past the limit nothing is kept. */
  add(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    if (this.#bytes > LIMIT_BYTES) this.#parts = [];
    else this.#parts.push(chunk.slice());
  }

  /** What was said, once all of it is here. */
  read(): ExecutionResult {
    this.#read ??= this.#interpret();
    return this.#read;
  }

  #interpret(): ExecutionResult {
    if (this.#bytes === 0) return NONE;
    if (this.#bytes > LIMIT_BYTES)
      return { kind: "invalid_result", message: `the result is larger than ${LIMIT_BYTES / 1024 ** 2} MiB` };
    const parts = this.#parts;
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(
        parts.length === 1 ? parts[0] : Buffer.concat(parts),
      );
      return interpret(JSON.parse(text), text);
    } catch {
      return { kind: "invalid_result", message: "what was written as the result is not valid JSON" };
    }
  }
}

function interpret(document: unknown, text: string): ExecutionResult {
  if (isRecord(document)) {
    if (Object.hasOwn(document, "return_value"))
      return { kind: "value", json: memberOf(text, "return_value") ?? "null" };
    const error = document["error"];
    if (isRecord(error) && typeof error["message"] === "string") {
      const kind = error["kind"] === "exception" ? "exception" : "invalid_result";
      return { kind, message: error["message"].slice(0, MESSAGE_LIMIT) };
    }
  }
  return { kind: "invalid_result", message: "what was written as the result has neither return_value nor error" };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
