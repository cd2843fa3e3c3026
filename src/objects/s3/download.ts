import { AppError } from "../../errors.ts";
import { damaged, type Source } from "../verified-stream.ts";
import type { Bucket } from "./bucket.ts";

/** Bytes that one request asks for, and that are kept in memory of a body. */
const PIECE_BYTES = 2 * 1024 ** 2;
const ATTEMPTS = 3;

/**
 * Bytes `start` to before `end` of the object whose key `locate` gives, in pieces: a reader that is slow then holds neither
 * a connection nor the lock that a store has on what is being read. Null when `locate` gives none. The first piece is there
 * when it resolves.
 */
export async function openDownload(
  bucket: Bucket,
  locate: () => Promise<string | null>,
  start: number,
  end: number,
): Promise<Source | null> {
  let key: string | null = null;
  let at = start;

  /** The next piece, in chunks; null when there is no such object any more. */
  const read = async (): Promise<Uint8Array[] | null> => {
    for (let attempt = 1; ; attempt++) {
      key ??= await locate();
      if (key === null) return null;
      try {
        const chunks = await bucket.read(key, at, Math.min(at + PIECE_BYTES, end));
        if (chunks.length === 0) throw damaged();
        for (const { length } of chunks) at += length;
        return chunks;
      } catch (error) {
        // One copy of the bytes may have given way to another meanwhile, or the connection may have broken.
        key = null;
        if (attempt === ATTEMPTS) throw error;
      }
    }
  };
  const first = start === end ? [] : await read();
  if (first === null) return null;
  let chunks = first.values();

  return {
    async next() {
      const ready = chunks.next();
      if (ready.done !== true) return ready.value;
      if (at >= end) return null;
      const more = await read();
      if (more === null) throw new AppError("store_unavailable", "the blob was deleted while it was read");
      chunks = more.values();
      return chunks.next().value ?? null;
    },
    close: () => Promise.resolve(),
  };
}
