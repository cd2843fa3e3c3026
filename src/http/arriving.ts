import { AppError } from "../errors.ts";
import { within } from "../within.ts";

/**
 * Bytes a second that a body must bring on average, after its first `patienceMs`: a slow phone does, a client that holds
 * connections open on purpose does not.
 */
const MIN_BYTES_PER_S = 8192;
const LOOK_MS = 250;

function tooSlow(patienceMs: number): AppError {
  const message = `the body came too slowly: nothing for ${patienceMs / 1000} s, or less than ${MIN_BYTES_PER_S} bytes a second`;
  return new AppError("request_timeout", message);
}

/** Waits for a small body, which is there at once or has `patienceMs`. `request_timeout`, `bad_request` when it was cut off. */
export async function arrived(text: Promise<string>, patienceMs: number): Promise<string> {
  const whole = await within(patienceMs, text).catch((error: unknown) => {
    throw cutOff(error);
  });
  if (whole === undefined) throw tooSlow(patienceMs);
  return whole;
}

/**
 * The body as it arrives. It fails with `request_timeout` when nothing has come for `patienceMs`, or too little; only time that
 * its reader spends waiting for it counts. `bad_request` when it was cut off.
 */
export function arriving(body: ReadableStream<Uint8Array>, patienceMs: number): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let waitedMs = 0;
  let bytes = 0;
  let waitsSinceMs: number | null = null;
  let timer: ReturnType<typeof setInterval> | null = null;
  // Rejects the read that is under way. Made anew for each: one promise for the whole body, in a race with every read, would
  // keep every piece in memory until the body's end.
  let refuse: ((error: AppError) => void) | null = null;
  const look = (): void => {
    if (waitsSinceMs === null) return;
    const nowMs = performance.now() - waitsSinceMs;
    const overMs = waitedMs + nowMs - patienceMs;
    if (nowMs > patienceMs || bytes < (overMs / 1000) * MIN_BYTES_PER_S) refuse?.(tooSlow(patienceMs));
  };
  const stop = (): void => {
    if (timer !== null) clearInterval(timer);
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        timer ??= setInterval(look, Math.min(LOOK_MS, patienceMs));
        waitsSinceMs = performance.now();
        try {
          const next = Promise.withResolvers<Awaited<ReturnType<typeof reader.read>>>();
          refuse = next.reject;
          reader.read().then(next.resolve, next.reject);
          const { done, value } = await next.promise;
          waitedMs += performance.now() - waitsSinceMs;
          waitsSinceMs = null;
          bytes += value?.length ?? 0;
          if (!done) return controller.enqueue(value);
          stop();
          controller.close();
        } catch (error) {
          stop();
          void reader.cancel().catch(() => {});
          controller.error(error instanceof AppError ? error : cutOff(error));
        }
      },
      cancel(reason) {
        stop();
        return reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

function cutOff(cause: unknown): AppError {
  return new AppError("bad_request", "the body was cut off", { cause });
}
