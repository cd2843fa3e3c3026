import { AppError } from "../errors.ts";

/**
 * The request's JSON value, or undefined when there is no body. `unsupported_media_type` when it says to be something
 * else, `body_too_large` past `maxBytes` (a body of unknown length is counted while it arrives), `malformed_json`.
 */
export async function readJson(request: Request, maxBytes: number): Promise<unknown> {
  if (request.body === null) return undefined;
  checkMediaType(request.headers);
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) > maxBytes) throw tooLarge(maxBytes);
  const text = declared === null ? await readText(request.body, maxBytes) : await request.text();
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new AppError("malformed_json", "the body is not valid JSON");
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
