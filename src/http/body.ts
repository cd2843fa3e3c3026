import { AppError } from "../errors.ts";
import type { Exchange } from "./endpoint.ts";

/** Up to here a body is read in one piece, which is faster. */
const SMALL_BYTES = 64 * 1024;
const MAX_REASON = 100;
const NO_BODY = { value: undefined, text: "" };

/**
 * The request's JSON value and its text, or undefined and "" when there is no body. Throws `unsupported_media_type` when it
 * says to be something else, `body_too_large` past `maxBytes` (a body of unknown length is counted while it arrives),
 * `malformed_json` and `request_timeout`.
 */
export async function readJson(
  { request, receive, receiveText }: Pick<Exchange, "request" | "receive" | "receiveText">,
  maxBytes: number,
): Promise<{ value: unknown; text: string }> {
  if (request.body === null) return NO_BODY;
  checkMediaType(request.headers);
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) > maxBytes) throw tooLarge(maxBytes);
  const isSmall = declared !== null && Number(declared) <= SMALL_BYTES;
  const text = isSmall ? await receiveText() : await readText(receive(), maxBytes);
  if (text === "") return NO_BODY;
  try {
    return { value: JSON.parse(text), text };
  } catch (error) {
    throw new AppError("malformed_json", `the body is not valid JSON${reasonOf(error)}`);
  }
}

/** A body without a content type is taken for JSON. */
function checkMediaType(headers: Headers): void {
  const type = headers.get("content-type");
  if (type !== null && !/^\s*application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type))
    throw new AppError("unsupported_media_type", "the body must be JSON: send Content-Type: application/json");
  const encoding = headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity")
    throw new AppError("unsupported_media_type", "the body must be sent without a Content-Encoding");
}

/** What the parser says is wrong, cut short since it may repeat what was sent. */
function reasonOf(error: unknown): string {
  const said = error instanceof Error ? error.message.replace(/^JSON Parse error: /, "") : "";
  return said === "" ? "" : `: ${said.slice(0, MAX_REASON)}`;
}

async function readText(body: ReadableStream<Uint8Array>, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  return new TextDecoder().decode(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks));
}

/** The error of a body above a limit. */
export function tooLarge(maxBytes: number): AppError {
  return new AppError("body_too_large", `the body may have at most ${maxBytes} bytes`);
}
