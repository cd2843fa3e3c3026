import {
  chmodSync,
  closeSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  write,
} from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { AppError } from "../errors.ts";
import { splitPath } from "./beneath.ts";
import type { TreeFile, WorkspaceContent } from "./protocol.ts";
import { MAX_TREE_ENTRIES } from "./tree.ts";

const writeTo = promisify(write);
/** JSON of the content, before the files' bytes. */
const MAX_HEAD_BYTES = 64 * 1024 * 1024;
const NEWLINE = 0x0a;

/**
 * Fills a workspace in which nobody runs anything with what an archive holds: a line of JSON (WorkspaceContent), then the
 * bytes of its files in their order, and nothing else. What was there before goes. Throws AppError, and then leaves nothing.
 */
export async function restoreTree(root: string, body: ReadableStream<Uint8Array>): Promise<void> {
  const incoming = new Incoming(body);
  try {
    empty(root);
    const content = checked(JSON.parse(await incoming.line(MAX_HEAD_BYTES)) as WorkspaceContent);
    for (const { path } of content.directories) mkdirSync(join(root, path), { recursive: true, mode: 0o700 });
    for (const file of content.entries) await writeFile(root, file, incoming);
    if (!(await incoming.isAtEnd())) throw new AppError("bad_request", "the archive has more bytes than its files");
    // Last, so that no path above led through one.
    for (const { path, target } of content.links) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      symlinkSync(target, join(root, path));
    }
    // From below, since a directory's mode may close it.
    for (const { path, mode } of content.directories.toReversed()) chmodSync(join(root, path), modeOf(mode));
  } catch (error) {
    await incoming.cancel();
    empty(root);
    throw translated(error);
  }
}

function empty(root: string): void {
  for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true, force: true });
}

/** Directories sorted from above to below. Throws `bad_request` for what could lead out of the workspace. */
function checked({ entries, directories, links }: WorkspaceContent): WorkspaceContent {
  if (entries.length + directories.length + links.length > MAX_TREE_ENTRIES)
    throw new AppError("bad_request", `an archive has at most ${MAX_TREE_ENTRIES} entries`);
  const paths = [...entries, ...directories, ...links].map(({ path }) => path);
  if (new Set(paths).size < paths.length || paths.some((path) => splitPath(path).join("/") !== path || path === ""))
    throw new AppError("bad_request", "the archive's paths are not those of a workspace");
  return { entries, links, directories: directories.toSorted((a, b) => (a.path < b.path ? -1 : 1)) };
}

async function writeFile(root: string, file: TreeFile, incoming: Incoming): Promise<void> {
  const target = join(root, file.path);
  mkdirSync(dirname(target), { recursive: true });
  const fd = openSync(target, "wx", 0o600);
  const hash = new Bun.CryptoHasher("sha256");
  try {
    for await (const chunk of incoming.bytes(file.size)) {
      hash.update(chunk);
      for (let done = 0; done < chunk.length;) done += (await writeTo(fd, chunk, done)).bytesWritten;
    }
  } finally {
    closeSync(fd);
  }
  if (hash.digest("hex") !== file.sha256)
    throw new AppError("bad_request", `the archive has other bytes of ${file.path}`);
  chmodSync(target, modeOf(file.mode));
  const modified = new Date(file.modified_ms ?? Date.now());
  lutimesSync(target, modified, modified);
}

function modeOf(octal: string): number {
  return Number.parseInt(octal, 8) & 0o1777;
}

/** A body that is taken piece by piece. */
class Incoming {
  readonly #next: () => Promise<{ done: boolean; value?: Uint8Array | undefined }>;
  readonly cancel: () => Promise<void>;
  #rest: Uint8Array = new Uint8Array();

  constructor(body: ReadableStream<Uint8Array>) {
    const reader = body.getReader();
    this.#next = () => reader.read();
    // Whoever cancels has a failure to tell of already.
    this.cancel = () => reader.cancel().catch(() => {});
  }

  /** False at the end of the body. */
  async #more(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#next();
      if (done || value === undefined) return false;
      this.#rest = value;
    }
    return true;
  }

  #take(bytes: number): Uint8Array {
    const piece = this.#rest.subarray(0, bytes);
    this.#rest = this.#rest.subarray(bytes);
    return piece;
  }

  /** The text before the next newline. */
  async line(maxBytes: number): Promise<string> {
    const pieces: Uint8Array[] = [];
    for (let size = 0; await this.#more();) {
      const end = this.#rest.indexOf(NEWLINE);
      const piece = this.#take(end === -1 ? this.#rest.length : end);
      pieces.push(piece);
      size += piece.length;
      if (size > maxBytes)
        throw new AppError("bad_request", `an archive begins with at most ${maxBytes} bytes of JSON`);
      if (end === -1) continue;
      this.#take(1);
      return Buffer.concat(pieces).toString("utf8");
    }
    throw cut();
  }

  async *bytes(size: number): AsyncGenerator<Uint8Array> {
    for (let left = size; left > 0;) {
      if (!(await this.#more())) throw cut();
      const piece = this.#take(left);
      left -= piece.length;
      yield piece;
    }
  }

  async isAtEnd(): Promise<boolean> {
    return !(await this.#more());
  }
}

function cut(): AppError {
  return new AppError("bad_request", "the archive is cut");
}

function translated(error: unknown): unknown {
  if (error instanceof AppError) return error;
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") return new AppError("disk_full", "the disk is full", { cause: error });
  return new AppError("bad_request", "the archive can't be restored", { cause: error });
}
