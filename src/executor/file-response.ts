import { closeSync, read, type Stats } from "node:fs";
import { promisify } from "node:util";
import { partOf } from "./byte-range.ts";
import { BODY_LENGTH, FILE_HANDLE, HANDED_OVER_MS, LOCAL_READER } from "./protocol.ts";

const readAt = promisify(read);
const BLOCK_BYTES = 256 * 1024;

/**
 * The answer for an open regular file: 200, 206, 304 or 416 (RFC 9110, one range). The descriptor is closed when the body
 * was read, was given up, or is not needed. A reader on this host gets a handle instead of the body (protocol.ts).
 */
export function fileResponse(
  fd: number,
  stats: Stats,
  method: "GET" | "HEAD",
  headers: Headers,
  signal?: AbortSignal,
): Response {
  const part = partOf(headers, { etag: `"${etagOf(stats)}"`, size: stats.size, modified: stats.mtime });
  const { status, start, end } = part;
  if (method === "HEAD" || status === 304 || status === 416) {
    closeSync(fd);
    return new Response(null, { status, headers: part.headers });
  }
  if (headers.has(LOCAL_READER)) {
    setTimeout(() => closeSync(fd), HANDED_OVER_MS).unref();
    const handle = `/proc/${process.pid}/fd/${fd} ${start} ${end}`;
    return new Response(null, {
      status,
      headers: { ...part.headers, "Content-Length": "0", [FILE_HANDLE]: handle },
    });
  }
  const sent = { ...part.headers, [BODY_LENGTH]: String(end - start) };
  return new Response(bodyOf(fd, start, end, signal), { status, headers: sent });
}

/**
 * Block by block, as the reader takes it. A file that shrinks meanwhile ends the body with an error. The descriptor is never
 * closed under a read, which could then get the bytes of whatever is opened next.
 */
function bodyOf(fd: number, start: number, end: number, signal?: AbortSignal): ReadableStream<Uint8Array> {
  let position = start;
  let isReading = false;
  let isDone = false;
  const close = (): void => {
    if (!isDone && !isReading) closeSync(fd);
    isDone = true;
  };
  const readBlock = async (): Promise<Uint8Array<ArrayBuffer>> => {
    const block = new Uint8Array(Math.min(BLOCK_BYTES, end - position));
    isReading = true;
    try {
      const { bytesRead } = await readAt(fd, block, 0, block.length, position);
      return block.subarray(0, bytesRead);
    } catch (error) {
      isDone = true;
      throw error;
    } finally {
      isReading = false;
      if (isDone) closeSync(fd);
    }
  };
  signal?.addEventListener("abort", close, { once: true });
  return new ReadableStream<Uint8Array>({
    type: "bytes",
    async pull(controller) {
      const block = position < end && !isDone ? await readBlock() : null;
      if (block === null || isDone) {
        close();
        controller.close();
      } else if (block.length === 0) {
        close();
        controller.error(new Error("the file became shorter while it was read"));
      } else {
        position += block.length;
        controller.enqueue(block);
      }
    },
    cancel: close,
  });
}

/** Changes with any write: inode, size and change time, which no program can set. */
export function etagOf(stats: Stats): string {
  return `${stats.ino.toString(36)}-${stats.size.toString(36)}-${Math.round(stats.ctimeMs * 1000).toString(36)}`;
}
