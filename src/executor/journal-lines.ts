import { readSync } from "node:fs";

/** Largest piece of a journal that is read at once. */
export const BLOCK_BYTES = 256 * 1024;
const PROBE_BYTES = 16 * 1024;
const NEWLINE = 0x0a;
const SPACE = 0x20;

/** The lines of the first `size` bytes of a journal, without their newlines. A line is valid until the next is taken. */
export function* journalLines(fd: number, size: number): Generator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for (let position = 0; position < size;) {
    const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, size - position));
    const count = readSync(fd, block, 0, block.length, position);
    if (count === 0) return;
    position += count;
    const bytes = rest.length === 0 ? block.subarray(0, count) : Buffer.concat([rest, block.subarray(0, count)]);
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      yield bytes.subarray(start, end);
      start = end + 1;
    }
    rest = bytes.subarray(start);
  }
}

/** The type and the JSON of a journal line. */
export function splitLine(line: Buffer): { type: string; json: Buffer } {
  const typeAt = line.indexOf(SPACE) + 1;
  const jsonAt = line.indexOf(SPACE, typeAt) + 1;
  return { type: line.toString("latin1", typeAt, jsonAt - 1), json: line.subarray(jsonAt) };
}

/**
 * Offset of the first entry numbered `seq` or higher among the bytes from `from` (the start of an entry) to `size` (the
 * end of one); `size` when there is none. A binary search: text in JSON has no newline, so each newline starts an entry.
 */
export function findEntry(fd: number, from: number, size: number, seq: number): number {
  let low = from;
  let high = size;
  while (high - low > PROBE_BYTES) {
    const middle = Math.floor((low + high) / 2);
    const start = nextLine(fd, middle, high);
    if (start >= high || numberAt(fd, start) > seq) high = middle + 1;
    else low = start;
  }
  while (low < size && numberAt(fd, low) < seq) low = nextLine(fd, low, size);
  return low;
}

const probe = Buffer.allocUnsafe(PROBE_BYTES);

/** Offset after the first newline at or after `from`; `end` when there is none before it. */
function nextLine(fd: number, from: number, end: number): number {
  for (let position = from; position < end;) {
    const count = readSync(fd, probe, 0, Math.min(probe.length, end - position), position);
    if (count === 0) return end;
    const newline = probe.subarray(0, count).indexOf(NEWLINE);
    if (newline >= 0) return position + newline + 1;
    position += count;
  }
  return end;
}

/** The number of the entry that starts at `position`. */
function numberAt(fd: number, position: number): number {
  const count = readSync(fd, probe, 0, 20, position);
  return Number.parseInt(probe.toString("latin1", 0, count), 10);
}
