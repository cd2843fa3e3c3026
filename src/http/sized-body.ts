import { closeSync, openSync, readdirSync, readlinkSync, statSync, unlinkSync, write } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { AppError } from "../errors.ts";

const writeTo = promisify(write);
/** Bodies up to this size are kept in memory. */
const MEMORY_BYTES = 1024 ** 2;
/** Disk that larger ones may take together, until each was sent; past it a body goes without its length. */
const SPOOL_BYTES = 512 * 1024 ** 2;
const SPOOL = join(tmpdir(), `sandbox-spool-${process.pid}-`);
/** How long Bun may take until it has opened the file of an answer. */
const OPENED_MS = 30_000;

let spooling = 0;

/**
 * The body of `length` bytes as one that Bun.serve sends with its Content-Length, which it drops from any stream
 * (oven-sh/bun#10507): read to its end before, into memory or a file that has no name any more. A large one for which there
 * is no room comes back as it is. The file stays open for `openedMs` milliseconds, and for as long as it is sent. Throws
 * `executor_unavailable` when it is cut.
 */
export async function sizedBody(
  body: ReadableStream<Uint8Array>,
  length: number,
  signal: AbortSignal,
  openedMs = OPENED_MS,
): Promise<Blob | ReadableStream<Uint8Array>> {
  if (length <= MEMORY_BYTES) return inMemory(body, length, signal);
  if (spooling + spooled() + length > SPOOL_BYTES) return body;
  spooling += length;
  try {
    return await inFile(body, length, signal, openedMs);
  } finally {
    spooling -= length;
  }
}

async function inMemory(body: ReadableStream<Uint8Array>, length: number, signal: AbortSignal): Promise<Blob> {
  const bytes = new Uint8Array(length);
  await each(body, length, signal, (chunk, at) => bytes.set(chunk, at));
  return new Blob([bytes]);
}

async function inFile(
  body: ReadableStream<Uint8Array>,
  length: number,
  signal: AbortSignal,
  openedMs: number,
): Promise<Blob> {
  const path = SPOOL + crypto.randomUUID();
  const fd = openSync(path, "wx+", 0o600);
  unlinkSync(path);
  try {
    await each(body, length, signal, async (chunk, at) => {
      for (let done = 0; done < chunk.length;)
        done += (await writeTo(fd, chunk, done, chunk.length - done, at + done)).bytesWritten;
    });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  setTimeout(() => closeSync(fd), openedMs).unref();
  return Bun.file(`/proc/self/fd/${fd}`).slice(0, length);
}

/** Calls `take` with each chunk and where it begins. Throws unless there are `length` bytes in all. */
async function each(
  body: ReadableStream<Uint8Array>,
  length: number,
  signal: AbortSignal,
  take: (chunk: Uint8Array, at: number) => Promise<void> | void,
): Promise<void> {
  let at = 0;
  try {
    for await (const chunk of body) {
      signal.throwIfAborted();
      if (at + chunk.length > length) throw cut();
      await take(chunk, at);
      at += chunk.length;
    }
  } catch (error) {
    if (error instanceof AppError || signal.aborted) throw error;
    throw cut(error);
  }
  if (at !== length) throw cut();
}

function cut(cause?: unknown): AppError {
  return new AppError("executor_unavailable", "the file changed while it was read", { cause, retryAfterS: 1 });
}

/** Bytes of files that are being sent: as long as one of this process's descriptors is open on them. */
function spooled(): number {
  const sizes = new Map<string, number>();
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (target.startsWith(SPOOL)) sizes.set(target, statSync(`/proc/self/fd/${fd}`).size);
    } catch {
      // Closed meanwhile.
    }
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}
