import { readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { JournalSource } from "./journal.ts";
import { BLOCK_BYTES, findEntry, journalLines, splitLine } from "./journal-lines.ts";
import type { ExecutionOutput, OutputPayload } from "./protocol.ts";
import { decodeOutput, incompleteTail } from "./utf8.ts";

/**
 * The journal's bytes from entry `after + 1`, live: the stream closes when the journal has ended and all of it was read.
 * Reads the file as fast as the reader takes it, in blocks that need not end with an entry. Cancelling frees the source.
 * `patienceMs`: how long the first read waits for more than is there, so that a short execution is one block in one piece.
 */
export function followJournal(source: JournalSource, after: number, patienceMs = 0): ReadableStream<Uint8Array> {
  let position = 0;
  let found = after <= 0;
  let stopWaiting: (() => void) | null = null;
  let stopped = false;
  let patient = patienceMs > 0;

  const find = (): void => {
    position = findEntry(source.fd, position, source.size, after + 1);
    found = position < source.size;
  };
  const grown = (): Promise<void> =>
    new Promise((resolve) => {
      stopWaiting = source.onGrowth(resolve);
    });
  let wake: (() => void) | null = null;
  const grownSoon = async (): Promise<void> => {
    const timer = setTimeout(() => wake?.(), patienceMs);
    await new Promise<void>((resolve) => {
      wake = resolve;
      stopWaiting = source.onGrowth(resolve);
    });
    clearTimeout(timer);
    stopWaiting?.();
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (patient && !source.ended) await grownSoon();
        patient = false;
        if (stopped) return;
        if (!found) find();
        while (position >= source.size && !source.ended) {
          await grown();
          if (stopped) return;
          if (!found) find();
        }
        const block = readBlock(source, position);
        position += block.length;
        if (block.length > 0) controller.enqueue(block);
        if (position < source.size || !source.ended) return;
        stopped = true;
        source.release();
        controller.close();
      },
      cancel() {
        if (stopped) return;
        stopped = true;
        stopWaiting?.();
        wake?.();
        source.release();
      },
    },
    { highWaterMark: 0 },
  );
}

function readBlock(source: JournalSource, position: number): Uint8Array {
  const block = new Uint8Array(Math.min(BLOCK_BYTES, source.size - position));
  const count = block.length === 0 ? 0 : readSync(source.fd, block, 0, block.length, position);
  return count === block.length ? block : block.subarray(0, count);
}

/** How many lines are read before others get their turn. */
const LINES_A_TURN = 64;

/** The first `limitBytes` bytes of each stream as text. Releases the source. */
export async function collectOutput(source: JournalSource, limitBytes: number): Promise<ExecutionOutput> {
  const streams = { stdout: new Head(limitBytes), stderr: new Head(limitBytes) };
  try {
    let count = 0;
    for (const line of journalLines(source.fd, source.size)) {
      const { type, json } = splitLine(line);
      if (type === "stdout" || type === "stderr") streams[type].add(json);
      if (streams.stdout.full && streams.stderr.full) break;
      if (++count % LINES_A_TURN === 0) await setImmediate();
    }
  } finally {
    source.release();
  }
  return { stdout: streams.stdout.text(), stderr: streams.stderr.text() };
}

/** The first bytes of a stream. */
class Head {
  readonly #limitBytes: number;
  readonly #parts: Uint8Array[] = [];
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get full(): boolean {
    return this.#bytes >= this.#limitBytes;
  }

  add(json: Buffer): void {
    if (this.full) return;
    const { text, data } = JSON.parse(json.toString("utf8")) as OutputPayload;
    const bytes = data === undefined ? Buffer.from(text) : Uint8Array.fromBase64(data);
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
  }

  text(): string {
    const all = Buffer.concat(this.#parts);
    if (all.length <= this.#limitBytes) return decodeOutput(all).text;
    const head = all.subarray(0, this.#limitBytes);
    return decodeOutput(head.subarray(0, head.length - incompleteTail(head))).text;
  }
}
