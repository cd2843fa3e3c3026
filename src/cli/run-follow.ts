import { setTimeout as delay } from "node:timers/promises";
import { AppError } from "../errors.ts";
import type { ExecutionView, RunClient } from "./run-client.ts";
import type { RunOutput } from "./run-output.ts";

/** Exit codes of this command that are not the program's; 124 comes from the service. */
export const EXIT = { lost: 125, cancelled: 130, brokenPipe: 141 } as const;

/** Cut streams in a row, without an event in between, before the run is given up: some 40 s. */
const MAX_CUTS = 24;
const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 2000;

/**
 * Shows the output of an execution as it comes, whatever cuts the stream, and tells the exit code. `cancelled` cancels the
 * execution. Throws AppError when the stream is lost for good.
 */
export async function follow(
  client: RunClient,
  id: string,
  output: RunOutput,
  cancelled: AbortSignal,
): Promise<number> {
  const lost = new AbortController();
  const cancel = (): void => {
    client.cancel(id).catch((error: unknown) => lost.abort(error));
  };
  if (cancelled.aborted) cancel();
  else cancelled.addEventListener("abort", cancel, { once: true });
  let seq = 0;
  for (let cuts = 0; cuts < MAX_CUTS; cuts++) {
    try {
      for await (const event of client.events(id, seq, lost.signal)) {
        seq = event.seq;
        cuts = 0;
        await output.show(event);
        if (event.type === "end") return await tell(event.data as ExecutionView, output);
      }
    } catch (error) {
      lost.signal.throwIfAborted();
      if (error instanceof AppError && error.status < 500) throw error;
    }
    await delay(Math.min(FIRST_PAUSE_MS * 2 ** cuts, LAST_PAUSE_MS));
  }
  throw new AppError("executor_unavailable", `the stream of execution ${id} was lost`);
}

/** The exit code; what a limit or a loss did goes to stderr, where the program's own traceback is already. */
async function tell(end: ExecutionView, output: RunOutput): Promise<number> {
  await output.sayWhatIsMissing(end);
  const isOwn = end.status === "completed" || end.reason === "exit_code" || end.reason === "exception";
  if (!isOwn) await output.say(end.error_message ?? end.status);
  if (output.isBroken) return EXIT.brokenPipe;
  if (end.status === "crashed") return EXIT.lost;
  if (end.status === "cancelled") return EXIT.cancelled;
  return end.exit_code ?? 1;
}
