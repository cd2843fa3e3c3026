import { closeSync, read, type Stats } from "node:fs";
import { promisify } from "node:util";
import { FILE_HANDLE, HANDED_OVER_MS, LOCAL_READER } from "./protocol.ts";

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
  const etag = `"${etagOf(stats)}"`;
  const common = {
    ETag: etag,
    "Last-Modified": stats.mtime.toUTCString(),
    "Accept-Ranges": "bytes",
    "Content-Type": "application/octet-stream",
  };
  const answer = (status: number, more: Record<string, string>): Response => {
    closeSync(fd);
    return new Response(null, { status, headers: { ...common, ...more } });
  };
  if (matches(headers.get("if-none-match"), etag)) return answer(304, {});
  const range =
    headers.get("if-range") === null || headers.get("if-range") === etag
      ? rangeOf(headers.get("range"), stats.size)
      : null;
  if (range === "unsatisfiable") return answer(416, { "Content-Range": `bytes */${stats.size}` });
  const { start, end } = range ?? { start: 0, end: stats.size };
  const more: Record<string, string> = { "Content-Length": String(end - start) };
  if (range !== null) more["Content-Range"] = `bytes ${start}-${end - 1}/${stats.size}`;
  const status = range === null ? 200 : 206;
  if (method === "HEAD") return answer(status, more);
  if (headers.has(LOCAL_READER)) {
    setTimeout(() => closeSync(fd), HANDED_OVER_MS).unref();
    const handle = `/proc/${process.pid}/fd/${fd} ${start} ${end}`;
    return new Response(null, {
      status,
      headers: { ...common, ...more, "Content-Length": "0", [FILE_HANDLE]: handle },
    });
  }
  return new Response(bodyOf(fd, start, end, signal), { status, headers: { ...common, ...more } });
}

function matches(header: string | null, etag: string): boolean {
  return (
    header !== null && header.split(",").some((one) => one.trim() === "*" || one.trim().replace(/^W\//, "") === etag)
  );
}

/** Null: no range, or one that is ignored because it is not a single byte range. */
function rangeOf(header: string | null, size: number): { start: number; end: number } | "unsatisfiable" | null {
  const [, first = "", last = ""] = /^bytes=(\d*)-(\d*)$/.exec(header ?? "") ?? [];
  if (first === "" && last === "") return null;
  if (first === "") {
    const start = Math.max(0, size - Number(last));
    return start < size ? { start, end: size } : "unsatisfiable";
  }
  const start = Number(first);
  const end = last === "" ? size : Math.min(size, Number(last) + 1);
  if (last !== "" && Number(last) < start) return null;
  return start < size ? { start, end } : "unsatisfiable";
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
