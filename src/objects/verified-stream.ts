import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { AppError } from "../errors.ts";

const CHUNK_BYTES = 256 * 1024;

/**
 * Bytes `start` to before `end` of a file, read as they are asked for; closes the file at the end. With `sha256`, errors
 * instead of closing when the bytes have another hash, and so does a file that is too short.
 */
export function readVerified(
  handle: FileHandle,
  start: number,
  end: number,
  sha256: string | null,
): ReadableStream<Uint8Array> {
  const hash = sha256 === null ? null : createHash("sha256");
  let at = start;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          if (at < end) {
            const buffer = new Uint8Array(Math.min(CHUNK_BYTES, end - at));
            const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
            if (bytesRead === 0) throw damaged();
            const chunk = buffer.subarray(0, bytesRead);
            at += bytesRead;
            hash?.update(chunk);
            controller.enqueue(chunk);
          }
          if (at < end) return;
          await handle.close();
          if (hash !== null && hash.digest("hex") !== sha256) throw damaged();
          controller.close();
        } catch (error) {
          await handle.close().catch(() => {});
          controller.error(error);
        }
      },
      cancel: () => handle.close(),
    },
    { highWaterMark: 0 },
  );
}

function damaged(): AppError {
  return new AppError("internal", "a stored object is damaged");
}
