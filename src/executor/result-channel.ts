import { checkedJson, memberOf, memberText, parseWithin, type RawJson } from "../json-text.ts";

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
      return interpret(text);
    } catch {
      return { kind: "invalid_result", message: "what was written as the result is not valid JSON" };
    }
  }
}

/** Of the text, since what a program returns may take 30 times its text's memory once it is parsed. */
function interpret(text: string): ExecutionResult {
  const checked = checkedJson(text) ?? "null";
  const json = memberText(checked, "return_value");
  if (json !== null) return { kind: "value", json };
  const error = errorIn(checked);
  if (error !== null) return error;
  return { kind: "invalid_result", message: "what was written as the result has neither return_value nor error" };
}

function errorIn(text: string): ExecutionResult | null {
  const member = memberOf(text, "error");
  if (member?.startsWith("{") !== true) return null;
  const { kind, message } = parseWithin(member, 1) as Record<string, unknown>;
  if (typeof message !== "string") return null;
  return { kind: kind === "exception" ? "exception" : "invalid_result", message: message.slice(0, MESSAGE_LIMIT) };
}
