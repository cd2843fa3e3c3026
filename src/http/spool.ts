import { rmSync } from "node:fs";
import { mkdir, open, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../errors.ts";
import { newRequestId } from "../id.ts";

/** Up to here a body is held in memory. */
const MEMORY_BYTES = 1024 * 1024;
/** Bodies that are written to disk at the same time. */
const MAX_WRITING = 8;
/** Bun opens the file as soon as it has the response; then the name is needed no more. */
const REMOVE_AFTER_MS = 1000;

/**
 * Holds bodies until they are whole. Bun sends a stream without its Content-Length, whatever its headers say; bytes in
 * memory or in a file it sends with it.
 */
export class Spool {
  readonly #directory: string;
  readonly #maxBytes: number;
  #writing = 0;

  /** `maxBytes` bounds what is held of one body. `directory` is this spool's own. */
  constructor(directory: string, maxBytes: number) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
  }

  /** Removes what a process that was killed has left. */
  clear(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Whether a body of `length` bytes can be held now. One that can't is to be sent as a stream. */
  hasRoomFor(length: number): boolean {
    return length <= MEMORY_BYTES || (length <= this.#maxBytes && this.#writing < MAX_WRITING);
  }

  /** The whole body. `file_conflict` when there is more of it than can be held; what its stream throws. */
  async hold(stream: ReadableStream<Uint8Array>): Promise<Blob> {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    let file: SpoolFile | null = null;
    try {
      for await (const chunk of stream as ReadableStream<Uint8Array<ArrayBuffer>>) {
        size += chunk.length;
        if (size > this.#maxBytes) throw new AppError("file_conflict", "the file grew while it was read");
        chunks.push(chunk);
        if (size <= MEMORY_BYTES) continue;
        file ??= await this.#openFile();
        for (const one of chunks.splice(0)) await file.handle.writeFile(one);
      }
    } catch (error) {
      if (file !== null) await rm(file.path, { force: true });
      throw error;
    } finally {
      if (file !== null) await this.#close(file);
    }
    if (file === null) return new Blob(chunks);
    const { path } = file;
    setTimeout(() => void rm(path, { force: true }), REMOVE_AFTER_MS);
    return Bun.file(path);
  }

  async #openFile(): Promise<SpoolFile> {
    this.#writing++;
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      const path = join(this.#directory, newRequestId());
      return { path, handle: await open(path, "wx", 0o600) };
    } catch (error) {
      this.#writing--;
      throw error;
    }
  }

  async #close(file: SpoolFile): Promise<void> {
    this.#writing--;
    await file.handle.close();
  }
}

type SpoolFile = { path: string; handle: FileHandle };
