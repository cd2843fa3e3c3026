import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { link, mkdir, open, opendir, readdir, readFile, rename, rm, stat, unlink, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { AppError } from "../errors.ts";
import type { BlobBody, BlobListing, ByteRange, Manifest, Objects, PutOptions, StoredBlob } from "./objects.ts";
import { checkedHash, checkedWorkspace } from "./names.ts";
import { Turns } from "../turns.ts";
import { damaged, verifiedStream, type Source } from "./verified-stream.ts";

const CHUNK_BYTES = 256 * 1024;

/** `blobs/<2 digits>/<62 digits>`, `manifests/<workspace>/<version>.json`, and `incoming/` for what is being written. */
class DiskObjects implements Objects {
  readonly givesUrls = false;
  readonly #path: string;
  /** One by one what gives a blob its time, and what deletes it for its time. */
  readonly #turns = new Turns();

  constructor(path: string) {
    this.#path = path;
  }

  #blob(sha256: string): string {
    return join(this.#path, "blobs", checkedHash(sha256).slice(0, 2), sha256.slice(2));
  }

  #manifests(workspace: string): string {
    return join(this.#path, "manifests", checkedWorkspace(workspace));
  }

  put(body: ReadableStream<Uint8Array>, options: PutOptions = {}): Promise<StoredBlob> {
    return this.#incoming(async (temporary, handle) => {
      const blob = await receive(body, handle, options);
      if (options.sha256 !== undefined && options.sha256 !== blob.sha256)
        throw new AppError("bad_request", `the bytes have SHA-256 ${blob.sha256}, not ${options.sha256}`);
      await handle.sync();
      const target = this.#blob(blob.sha256);
      await this.#makeDirectory(dirname(target));
      await this.#turns.take(target, () => rename(temporary, target));
      await syncDirectory(dirname(target));
      return blob;
    });
  }

  /** Runs `work` with a new file that is gone afterwards unless `work` has moved it. */
  async #incoming<T>(work: (path: string, handle: FileHandle) => Promise<T>): Promise<T> {
    const path = join(this.#path, "incoming", crypto.randomUUID());
    try {
      const handle = await open(path, "wx", 0o600);
      try {
        return await work(path, handle);
      } finally {
        await handle.close();
        await rm(path, { force: true });
      }
    } catch (error) {
      throw translated(error);
    }
  }

  /** Makes a directory two levels below the store, and its name durable. */
  async #makeDirectory(path: string): Promise<void> {
    if ((await mkdir(path, { recursive: true, mode: 0o700 })) === undefined) return;
    await syncDirectory(dirname(path));
    await syncDirectory(this.#path);
  }

  async get(sha256: string, range?: ByteRange): Promise<BlobBody | null> {
    const handle = await ifThere(open(this.#blob(sha256), "r"));
    if (handle === null) return null;
    try {
      const { size } = await handle.stat();
      const { start, end } = range ?? { start: 0, end: size };
      if (!(start >= 0 && start <= end && end <= size))
        throw new AppError("range_not_satisfiable", `the blob has ${size} bytes`);
      const whole = start === 0 && end === size;
      return { size, body: verifiedStream(fileSource(handle, start, end), whole ? sha256 : null) };
    } catch (error) {
      await handle.close();
      throw translated(error);
    }
  }

  async has(sha256: string): Promise<number | null> {
    return (await ifThere(stat(this.#blob(sha256))))?.size ?? null;
  }

  renew(sha256: string, sinceMs: number): Promise<boolean> {
    const path = this.#blob(sha256);
    return this.#turns.take(path, async () => {
      const found = await ifThere(stat(path));
      const now = new Date();
      if (found !== null && found.mtimeMs < sinceMs) await utimes(path, now, now);
      return found !== null;
    });
  }

  async delete(sha256: string, storedBeforeMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    const path = this.#blob(sha256);
    return this.#turns.take(path, async () => {
      const found = await ifThere(stat(path));
      if (found === null || found.mtimeMs >= storedBeforeMs) return false;
      return (await ifThere(unlink(path).then(() => true))) ?? false;
    });
  }

  async *blobs(): AsyncIterable<BlobListing> {
    for (const prefix of (await ifThere(readdir(join(this.#path, "blobs")))) ?? []) {
      const directory = join(this.#path, "blobs", prefix);
      for await (const { name } of await opendir(directory)) {
        const found = await ifThere(stat(join(directory, name)));
        if (found !== null) yield { sha256: prefix + name, size: found.size, storedMs: Math.floor(found.mtimeMs) };
      }
    }
  }

  async removeUnfinished(begunBeforeMs: number): Promise<void> {
    const incoming = join(this.#path, "incoming");
    for (const name of (await ifThere(readdir(incoming))) ?? []) {
      const path = join(incoming, name);
      // What is still written to has a young time.
      if (((await ifThere(stat(path)))?.mtimeMs ?? Infinity) < begunBeforeMs) await rm(path, { force: true });
    }
  }

  presign(): Promise<null> {
    return Promise.resolve(null);
  }

  async putManifest(workspace: string, manifest: Manifest): Promise<void> {
    const directory = this.#manifests(workspace);
    await this.#incoming(async (temporary, handle) => {
      await handle.writeFile(JSON.stringify(manifest));
      await handle.sync();
      await this.#makeDirectory(directory);
      await link(temporary, join(directory, `${manifest.version}.json`));
      await syncDirectory(directory);
    });
  }

  async getManifest(workspace: string, version: number): Promise<Manifest | null> {
    const text = await ifThere(readFile(join(this.#manifests(workspace), `${Math.trunc(version)}.json`), "utf8"));
    return text === null ? null : (JSON.parse(text) as Manifest);
  }

  async versions(workspace: string): Promise<number[]> {
    const names = (await ifThere(readdir(this.#manifests(workspace)))) ?? [];
    return names.map((name) => Number.parseInt(name, 10)).toSorted((a, b) => a - b);
  }

  async *workspaces(): AsyncIterable<string> {
    yield* (await ifThere(readdir(join(this.#path, "manifests")))) ?? [];
  }

  async deleteManifests(workspace: string, before?: number): Promise<void> {
    const directory = this.#manifests(workspace);
    if (before === undefined) return rm(directory, { recursive: true, force: true });
    for (const version of await this.versions(workspace))
      if (version < before) await rm(join(directory, `${version}.json`), { force: true });
  }
}

/** Bytes `start` to before `end` of a file; fails when the file is too short. */
function fileSource(handle: FileHandle, start: number, end: number): Source {
  let at = start;
  return {
    async next() {
      if (at === end) return null;
      const buffer = new Uint8Array(Math.min(CHUNK_BYTES, end - at));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw damaged();
      at += bytesRead;
      return buffer.subarray(0, bytesRead);
    },
    close: () => handle.close(),
  };
}

async function receive(body: ReadableStream<Uint8Array>, handle: FileHandle, options: PutOptions): Promise<StoredBlob> {
  const hash = createHash("sha256");
  const limit = options.limitBytes ?? Number.POSITIVE_INFINITY;
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > limit) throw new AppError("body_too_large", `at most ${limit} bytes`);
    hash.update(chunk);
    for (let done = 0; done < chunk.byteLength;) done += (await handle.write(chunk, done)).bytesWritten;
  }
  return { sha256: hash.digest("hex"), size };
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The result, or null when the file is not there. */
async function ifThere<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw translated(error);
  }
}

function translated(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof AppError || code === undefined) return error;
  if (code === "EEXIST") return new AppError("file_conflict", "this version exists already", { cause: error });
  if (code === "ENOSPC" || code === "EDQUOT") return new AppError("disk_full", "the disk is full", { cause: error });
  return new AppError("store_unavailable", "the object store can't be used now", { cause: error, retryAfterS: 1 });
}

/** Opens the object store in a directory of its own. The one process that has the data directory's lock calls it. */
export async function openDiskObjects(path: string): Promise<Objects> {
  const incoming = join(path, "incoming");
  await rm(incoming, { recursive: true, force: true });
  await mkdir(incoming, { recursive: true, mode: 0o700 });
  return new DiskObjects(path);
}
