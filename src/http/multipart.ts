import { AppError } from "../errors.ts";
import { parametersOf } from "./content-disposition.ts";

/** Bytes of a part's headers, and parts before the one that is wanted. */
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_PARTS = 64;
const CRLF = Buffer.from("\r\n");
const BLANK_LINE = Buffer.from("\r\n\r\n");

/** The file of a form; `body` is to be read while the request still arrives. */
export type UploadedFile = { filename: string; body: ReadableStream<Uint8Array> };

/** The boundary in a `Content-Type`. `unsupported_media_type` when it is not a form with one. */
export function boundaryOf(contentType: string | null): string {
  const isForm = /^\s*multipart\/form-data\s*;/i.test(contentType ?? "");
  const boundary = isForm ? parametersOf(contentType ?? "").get("boundary") : undefined;
  if (boundary === undefined || boundary === "" || boundary.length > 200)
    throw new AppError("unsupported_media_type", "the body must be multipart/form-data with a boundary");
  return boundary;
}

/**
 * Finds the part `name` of a multipart/form-data body as it arrives; the parts before it are skipped. No more of the body
 * is held than one chunk. `validation_failed` when there is no such part; its stream fails with `bad_request` when the
 * body ends inside it.
 */
export async function openPart(
  source: ReadableStream<Uint8Array>,
  boundary: string,
  name: string,
): Promise<UploadedFile> {
  const reader = new PartReader(source, boundary);
  for (let i = 0; i < MAX_PARTS; i++) {
    const headers = await reader.nextHeaders();
    if (headers === null) break;
    const parameters = parametersOf(headers.get("content-disposition") ?? "");
    if (parameters.get("name") === name) return { filename: parameters.get("filename") ?? "", body: reader.body() };
    for await (const chunk of reader.chunks()) void chunk;
  }
  const issue = { type: "missing", loc: ["body", name], msg: "Field required" };
  throw new AppError("validation_failed", `the form has no field ${name}`, { issues: [issue] });
}

/** Reads the parts of a body one after another. */
class PartReader {
  readonly #source: AsyncIterator<Uint8Array>;
  /** What ends a part: a line break, two dashes and the boundary. */
  readonly #delimiter: Buffer;
  /** Read but not yet given out. It starts with a line break, so that the first boundary looks like the others. */
  #held: Buffer = CRLF;

  constructor(source: ReadableStream<Uint8Array>, boundary: string) {
    this.#source = source[Symbol.asyncIterator]();
    this.#delimiter = Buffer.from(`\r\n--${boundary}`);
  }

  /** Reads the preamble or what is left of the part before, then the headers of the next; null at the closing boundary. */
  async nextHeaders(): Promise<Map<string, string> | null> {
    if (this.#held === CRLF) for await (const preamble of this.chunks()) void preamble;
    while (this.#held.length < 2) await this.#more();
    if (this.#held.subarray(0, 2).toString("latin1") === "--") return null;
    let end = this.#held.indexOf(BLANK_LINE);
    for (; end < 0; end = this.#held.indexOf(BLANK_LINE)) {
      if (this.#held.length > MAX_HEADER_BYTES) throw malformed("the headers of a part are too long");
      await this.#more();
    }
    const lines = this.#held.subarray(0, end).toString("utf8").split("\r\n");
    this.#held = this.#held.subarray(end + BLANK_LINE.length);
    return new Map(
      lines.map((line) => [
        line.slice(0, line.indexOf(":")).trim().toLowerCase(),
        line.slice(line.indexOf(":") + 1).trim(),
      ]),
    );
  }

  /** The bytes up to the next boundary, which is taken out too. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const at = this.#held.indexOf(this.#delimiter);
      if (at >= 0) {
        const last = this.#held.subarray(0, at);
        this.#held = this.#held.subarray(at + this.#delimiter.length);
        if (last.length > 0) yield last;
        return;
      }
      const safe = this.#held.length - this.#delimiter.length + 1;
      if (safe > 0) {
        const chunk = this.#held.subarray(0, safe);
        this.#held = this.#held.subarray(safe);
        yield chunk;
      }
      await this.#more();
    }
  }

  /** The part's bytes as a stream; what comes after them in the body is not read. */
  body(): ReadableStream<Uint8Array> {
    const chunks = this.chunks();
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const next = await chunks.next();
          if (next.done !== true) return controller.enqueue(next.value);
          await this.#source.return?.();
          controller.close();
        },
        cancel: async () => void (await this.#source.return?.()),
      },
      { highWaterMark: 0 },
    );
  }

  async #more(): Promise<void> {
    const next = await this.#source.next();
    if (next.done === true) throw malformed("the form ends before its closing boundary");
    const { buffer, byteOffset, byteLength } = next.value;
    this.#held =
      this.#held.length === 0 ? Buffer.from(buffer, byteOffset, byteLength) : Buffer.concat([this.#held, next.value]);
  }
}

function malformed(message: string): AppError {
  return new AppError("bad_request", message);
}
