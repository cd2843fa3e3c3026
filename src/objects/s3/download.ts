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

  const read = async (): Promise<Uint8Array | null> => {
    for (let attempt = 1; ; attempt++) {
      key ??= await locate();
      if (key === null) return null;
      try {
        const piece = await bucket.read(key, at, Math.min(at + PIECE_BYTES, end));
        at += piece.length;
        return piece;
      } catch (error) {
        // One copy of the bytes may have given way to another meanwhile, or the connection may have broken.
        key = null;
        if (attempt === ATTEMPTS) throw error;
      }
    }
  };
  let first = start === end ? new Uint8Array() : await read();
  if (first === null) return null;

  return {
    async next() {
      const piece = first !== null && first.length > 0 ? first : at < end ? await read() : new Uint8Array();
      first = null;
      if (piece === null) throw new AppError("store_unavailable", "the blob was deleted while it was read");
      if (piece.length === 0 && at < end) throw damaged();
      return piece.length === 0 ? null : piece;
    },
    close: () => Promise.resolve(),
  };
}
