import { provenOutput, type Client, type Json, type StreamEvent } from "../../e2e/client.ts";

/** What a client saw of an execution's stream, over all its connections. */
export type Seen = {
  events: StreamEvent[];
  /** Connections that ended, or could not be made, before the `end` event. */
  cuts: number;
};

const RETRY_MS = 100;
/** A connection that says nothing for so long, not even a heartbeat's event, is given up. */
const CONNECTION_MS = 30_000;

/**
 * Reads an execution's events to `end` as a client that reconnects with Last-Event-ID whenever its stream is cut. `onEvent`
 * hears each. Throws when it has not ended after `limitMs`.
 */
export async function readToEnd(
  client: Client,
  id: string,
  onEvent: (event: StreamEvent) => void = () => {},
  limitMs = 120_000,
): Promise<Seen> {
  const seen: Seen = { events: [], cuts: 0 };
  const end = performance.now() + limitMs;
  for (;;) {
    try {
      const signal = AbortSignal.timeout(CONNECTION_MS);
      for await (const event of client.events(id, { after: seen.events.at(-1)?.seq ?? 0, signal })) {
        seen.events.push(event);
        onEvent(event);
        if (event.type === "end") return seen;
      }
    } catch (error) {
      if (performance.now() > end) throw new Error(`${id} has not ended within ${limitMs / 1000} s`, { cause: error });
    }
    if (performance.now() > end) throw new Error(`${id} has not ended within ${limitMs / 1000} s`);
    seen.cuts++;
    await Bun.sleep(RETRY_MS);
  }
}

/** What the stream's stdout was, after the proof that every byte came once and in order; and how the execution ended. */
export function proven({ events }: Seen): { stdout: string; status: string } {
  return { stdout: provenOutput(events, "stdout"), status: String(events.at(-1)?.data["status"]) };
}

/** Repeats a request that is safe to repeat until it is answered with other than a 5xx; throws after `limitMs`. */
export async function persist(
  call: () => Promise<{ status: number; body: Json }>,
  limitMs = 90_000,
): Promise<{ status: number; body: Json }> {
  const end = performance.now() + limitMs;
  for (;;) {
    const answer = await call().catch((error: unknown) => ({ status: 599, body: { message: String(error) } }));
    if (answer.status < 500) return answer;
    if (performance.now() > end) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    await Bun.sleep(RETRY_MS);
  }
}
