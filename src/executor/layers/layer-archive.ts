import { open } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../../errors.ts";
import { restoreTree } from "../archive.ts";
import type { InstalledPackage } from "../protocol.ts";
import { TreeReader } from "../tree.ts";

/** Bytes of a layer's files that are worth being carried elsewhere. */
const MAX_BYTES = 512 * 1024 ** 2;
const MAX_LINE_BYTES = 1024 * 1024;
const BLOCK_BYTES = 256 * 1024;
const NEWLINE = 0x0a;

/**
 * A layer as bytes: a line of JSON (its packages), then the archive of its directory (archive.ts). `body_too_large` for one
 * that is better built than carried.
 */
export async function layerArchive(
  directory: string,
  packages: readonly InstalledPackage[],
): Promise<ReadableStream<Uint8Array>> {
  const { entries, directories, links } = await new TreeReader(directory).read(MAX_BYTES);
  const pieces = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.from(`${JSON.stringify(packages)}\n${JSON.stringify({ entries, directories, links })}\n`);
    for (const { path } of entries) yield* bytesOf(join(directory, path));
  };
  return streamOf(pieces());
}

/** Fills a directory with an archived layer; `disk_full` past `maxBytes`. Returns the packages that the archive names. */
export async function restoreLayer(
  directory: string,
  body: ReadableStream<Uint8Array>,
  maxBytes: number,
): Promise<InstalledPackage[]> {
  const { line, rest } = await firstLine(body);
  const pieces = async function* (): AsyncGenerator<Uint8Array> {
    let size = 0;
    for await (const piece of rest) {
      size += piece.length;
      if (size > maxBytes) throw new AppError("disk_full", "the packages need more than the disk has");
      yield piece;
    }
  };
  await restoreTree(directory, streamOf(pieces()));
  return JSON.parse(line) as InstalledPackage[];
}

/** Takes the first line of a body off, which is at most 1 MiB long. Throws `bad_request` when there is none. */
export async function firstLine(
  body: ReadableStream<Uint8Array>,
): Promise<{ line: string; rest: ReadableStream<Uint8Array> }> {
  const pieces = body[Symbol.asyncIterator]();
  let held = Buffer.alloc(0);
  while (!held.includes(NEWLINE)) {
    const { done, value } = await pieces.next();
    if (done === true || held.length > MAX_LINE_BYTES)
      throw new AppError("bad_request", "the archive has no first line");
    held = Buffer.concat([held, value]);
  }
  const end = held.indexOf(NEWLINE);
  const others = async function* (): AsyncGenerator<Uint8Array> {
    if (held.length > end + 1) yield held.subarray(end + 1);
    for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) yield next.value;
  };
  return { line: held.toString("utf8", 0, end), rest: streamOf(others()) };
}

/** The body with a line before it. */
export function withFirstLine(line: string, body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const pieces = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.from(`${line}\n`);
    yield* body;
  };
  return streamOf(pieces());
}

/** What a generator makes, as it is asked for. */
function streamOf(pieces: AsyncGenerator<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await pieces.next();
        if (done === true) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => void (await pieces.return(undefined)),
    },
    { highWaterMark: 0 },
  );
}

async function* bytesOf(path: string): AsyncGenerator<Uint8Array> {
  const file = await open(path);
  try {
    for (;;) {
      const block = new Uint8Array(BLOCK_BYTES);
      const { bytesRead } = await file.read(block);
      if (bytesRead === 0) return;
      yield block.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}
