import { createHash } from "node:crypto";
import { AppError } from "../errors.ts";

export type Source = {
  /** The next bytes, or null at the end. */
  next(): Promise<Uint8Array | null>;
  /** Frees what it holds; called once. */
  close(): Promise<void>;
};

/** The source's bytes, taken as they are asked for. With `sha256`, errors instead of closing when they have another hash. */
export function verifiedStream(source: Source, sha256: string | null): ReadableStream<Uint8Array> {
  const hash = sha256 === null ? null : createHash("sha256");
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const chunk = await source.next();
          if (chunk !== null) {
            hash?.update(chunk);
            return controller.enqueue(chunk);
          }
          await source.close();
          if (hash !== null && hash.digest("hex") !== sha256) throw damaged();
          controller.close();
        } catch (error) {
          // The reader is told of what came first.
          await source.close().catch(() => {});
          controller.error(error);
        }
      },
      cancel: () => source.close(),
    },
    { highWaterMark: 0 },
  );
}

/** What a stored object that has other bytes than it had is answered with. */
export function damaged(): AppError {
  return new AppError("internal", "a stored object is damaged");
}
