import {
  closeSync,
  constants,
  fchownSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  write,
  type Stats,
} from "node:fs";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { AppError } from "../errors.ts";
import { at, makeDirectoryAt, openPlace, splitPath, type Place } from "./beneath.ts";
import { etagOf, fileResponse } from "./file-response.ts";
import type { FileEntry, FileWritten } from "./protocol.ts";

/** The space that one upload takes; together with others it stays under the limit of the workspace. */
export type Upload = {
  /** False when the workspace has no room for so many more bytes. */
  take(bytes: number): boolean;
  /** Must come once: the file is in the workspace now (`isKept`), or gone. */
  end(isKept: boolean): void;
};

export type WorkspaceOptions = {
  /** Who gets what is written from outside; undefined: the executor's own user. */
  owner?: { uid: number; gid: number } | undefined;
  beginUpload(): Promise<Upload>;
  /** Where uploads are that are not whole yet, on the file system of the workspace; undefined: beside what they become. */
  incomingDir?: string | undefined;
};

/** Uploads beside what they become that are not whole yet; never listed. */
export const TEMPORARY = ".sandbox-upload-";
const writeTo = promisify(write);
/** Longest time that a listing keeps the event loop, but for one directory. */
const SLICE_MS = 2;
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Files of one workspace, as the executor serves them while the sandbox's own user may change everything in it at any
 * moment. Paths are the caller's, relative to the workspace. Methods throw AppError.
 */
export class WorkspaceFiles {
  readonly #root: string;
  readonly #options: WorkspaceOptions;

  constructor(root: string, options: WorkspaceOptions) {
    this.#root = root;
    this.#options = options;
  }

  /** The file at `path`, or the entries of the directory there (with `recursive` of all below it), at most `limit`. */
  async list(path: string, options: { recursive: boolean; limit: number }): Promise<FileEntry[]> {
    const names = splitPath(path);
    const own = this.#at(names, { followLast: true }, (place) => {
      const stats = statOf(place);
      return place.name === "" || stats.isDirectory() ? null : entryOf(place.name, names.join("/"), stats);
    });
    return own === null ? this.#collect(names, options) : [own];
  }

  /** Breadth first, each directory opened anew from the root, so that the walk holds one at a time; others get their turn. */
  async #collect(
    start: readonly string[],
    { recursive, limit }: { recursive: boolean; limit: number },
  ): Promise<FileEntry[]> {
    const found = this.#entriesIn(start, limit);
    const isNext = (entry: FileEntry): boolean => recursive && entry.type === "directory";
    const open = found.filter(isNext).map((entry) => entry.path);
    let sliceEndMs = performance.now() + SLICE_MS;
    for (let path = open.shift(); path !== undefined && found.length < limit; path = open.shift()) {
      const entries = this.#entriesBelow(path.split("/"), limit - found.length);
      found.push(...entries);
      open.push(...entries.filter(isNext).map((entry) => entry.path));
      if (performance.now() < sliceEndMs) continue;
      await setImmediate();
      sliceEndMs = performance.now() + SLICE_MS;
    }
    return found;
  }

  #entriesIn(dir: readonly string[], limit: number): FileEntry[] {
    return this.#at([...dir, "."], { followLast: false }, ({ parent }) => {
      const entries: FileEntry[] = [];
      for (const name of readdirSync(at(parent, ".")).toSorted()) {
        if (entries.length >= limit) break;
        const stats = lstatSync(at(parent, name), { throwIfNoEntry: false });
        if (stats === undefined || name.startsWith(TEMPORARY)) continue;
        entries.push(entryOf(name, [...dir, name].join("/"), stats));
      }
      return entries;
    });
  }

  /** None for what is gone or no directory meanwhile, too deep, or closed by its mode. */
  #entriesBelow(dir: readonly string[], limit: number): FileEntry[] {
    try {
      return this.#entriesIn(dir, limit);
    } catch (error) {
      if (error instanceof AppError) return [];
      throw error;
    }
  }

  /** The answer to a GET or HEAD: status, headers (with Range and ETag) and a body that streams. */
  async read(path: string, method: "GET" | "HEAD", headers: Headers, signal?: AbortSignal): Promise<Response> {
    return this.#at(splitPath(path), { followLast: true }, (place) => {
      if (place.name === "") throw notFile(path);
      const fd = openSync(at(place.parent, place.name), READ);
      const stats = fstatSync(fd);
      if (stats.isFile()) return fileResponse(fd, stats, method, headers, signal);
      closeSync(fd);
      throw notFile(path);
    });
  }

  /**
   * Stores a body under `path` in one step: it is there whole or not at all. `body_too_large` past `limitBytes`,
   * `disk_full` when the workspace or the disk has no room, `file_conflict` when a directory is there.
   */
  async write(path: string, body: ReadableStream<Uint8Array>, limitBytes: number): Promise<FileWritten> {
    const names = splitPath(path);
    if (names.length === 0) throw notFile(path);
    const place = this.#place(names, { followLast: true, makeParents: this.#makeDirectory });
    const { incomingDir } = this.#options;
    const unique = `${TEMPORARY}${crypto.randomUUID()}`;
    const temporary = incomingDir === undefined ? at(place.parent, unique) : `${incomingDir}/${unique}`;
    let upload: Upload | null = null;
    try {
      const present = lstatSync(at(place.parent, place.name), { throwIfNoEntry: false });
      if (present?.isDirectory() === true || place.name === "")
        throw new AppError("file_conflict", `${path} is a directory`);
      const mode = present?.isFile() === true ? present.mode & 0o777 : 0o644;
      upload = await this.#options.beginUpload();
      const size = await this.#fill(openSync(temporary, CREATE, mode), body, limitBytes, upload);
      renameSync(temporary, at(place.parent, place.name));
      upload.end(true);
      return { path: names.join("/"), size, created: present === undefined };
    } catch (error) {
      rmSync(temporary, { force: true });
      upload?.end(false);
      // Of no use to the caller beside the failure itself.
      await body.cancel().catch(() => {});
      throw translated(error);
    } finally {
      place.close();
    }
  }

  /** Closes `fd`. Resolves with the number of bytes. */
  async #fill(fd: number, body: ReadableStream<Uint8Array>, limitBytes: number, upload: Upload): Promise<number> {
    let size = 0;
    try {
      if (this.#options.owner !== undefined) fchownSync(fd, this.#options.owner.uid, this.#options.owner.gid);
      if (!upload.take(0)) throw noRoom();
      for await (const chunk of body) {
        size += chunk.length;
        if (size > limitBytes) throw new AppError("body_too_large", `a file may have at most ${limitBytes} bytes`);
        if (!upload.take(chunk.length)) throw noRoom();
        for (let written = 0; written < chunk.length;) written += (await writeTo(fd, chunk, written)).bytesWritten;
      }
    } finally {
      closeSync(fd);
    }
    return size;
  }

  /** Removes a file, a link itself, or a directory with all below it. */
  async remove(path: string): Promise<void> {
    const names = splitPath(path);
    if (names.length === 0) throw new AppError("invalid_path", "the workspace itself can't be removed");
    const place = this.#place(names, { followLast: false });
    try {
      if (statOf(place).isDirectory()) await this.#removeTree(place);
      else unlinkSync(at(place.parent, place.name));
    } catch (error) {
      throw translated(error);
    } finally {
      place.close();
    }
  }

  /** By `rm` as the workspace's own user: a tree that is changed meanwhile can't make it reach anything else. */
  async #removeTree(place: Place): Promise<void> {
    const { owner } = this.#options;
    const rm = Bun.spawn(["rm", "-rf", "--", `./${place.name}`], {
      cwd: at(place.parent, "."),
      stdout: "ignore",
      stderr: "ignore",
      ...owner,
    });
    if ((await rm.exited) !== 0)
      throw new AppError("file_conflict", "not everything in the directory could be removed");
  }

  /** Renames; parents of `to` are made. `file_conflict` when `to` exists. */
  async move(from: string, to: string): Promise<void> {
    const target = splitPath(to);
    const source = splitPath(from);
    if (source.length === 0 || target.length === 0)
      throw new AppError("invalid_path", "the workspace itself can't be moved");
    if (target.length > source.length && source.every((name, index) => name === target[index]))
      throw new AppError("invalid_path", `${from} can't be moved into itself`);
    this.#at(source, { followLast: false }, (old) => {
      statOf(old);
      this.#at(target, { followLast: false, makeParents: this.#makeDirectory }, (place) => {
        if (lstatSync(at(place.parent, place.name), { throwIfNoEntry: false }) !== undefined)
          throw new AppError("file_conflict", `${to} exists already`);
        renameSync(at(old.parent, old.name), at(place.parent, place.name));
      });
    });
  }

  /** Makes a directory and its parents; one that exists is fine. */
  async makeDirectory(path: string): Promise<void> {
    const names = splitPath(path);
    if (names.length === 0) return;
    this.#at(names, { followLast: true, makeParents: this.#makeDirectory }, (place) => {
      this.#makeDirectory(place.parent, place.name);
      if (!lstatSync(at(place.parent, place.name)).isDirectory())
        throw new AppError("file_conflict", `${path} is a file`);
    });
  }

  readonly #makeDirectory = (parent: number, name: string): void => {
    const { owner } = this.#options;
    makeDirectoryAt(parent, name, owner, (fd) => owner !== undefined && fchownSync(fd, owner.uid, owner.gid));
  };

  #place(names: readonly string[], how: Parameters<typeof openPlace>[2]): Place {
    try {
      return openPlace(this.#root, names, how);
    } catch (error) {
      throw translated(error);
    }
  }

  #at<T>(names: readonly string[], how: Parameters<typeof openPlace>[2], act: (place: Place) => T): T {
    const place = this.#place(names, how);
    try {
      return act(place);
    } catch (error) {
      throw translated(error);
    } finally {
      place.close();
    }
  }
}

function statOf(place: Place): Stats {
  return lstatSync(at(place.parent, place.name === "" ? "." : place.name));
}

function noRoom(): AppError {
  return new AppError("disk_full", "the session's disk limit is reached");
}

function notFile(path: string): AppError {
  return new AppError("file_conflict", `${path === "" ? "the workspace" : path} is not a regular file`);
}

function entryOf(name: string, path: string, stats: Stats): FileEntry {
  const type = stats.isFile()
    ? "file"
    : stats.isDirectory()
      ? "directory"
      : stats.isSymbolicLink()
        ? "symlink"
        : "other";
  return {
    name,
    path,
    size: stats.size,
    modifiedMs: stats.mtimeMs,
    etag: `"${etagOf(stats)}"`,
    type,
    mode: (stats.mode & 0o7777).toString(8).padStart(4, "0"),
  };
}

const CODES: Record<
  string,
  { code: "file_not_found" | "file_conflict" | "disk_full" | "invalid_path"; message: string }
> = {
  ENOENT: { code: "file_not_found", message: "there is no such file" },
  ENOTDIR: { code: "file_not_found", message: "there is no such file" },
  ENXIO: { code: "file_conflict", message: "this is not a regular file" },
  ELOOP: { code: "invalid_path", message: "the path leads through a symbolic link that can't be followed" },
  ENAMETOOLONG: { code: "invalid_path", message: "the path is too long" },
  EINVAL: { code: "invalid_path", message: "the path can't be used" },
  ENOSPC: { code: "disk_full", message: "the disk is full" },
  EDQUOT: { code: "disk_full", message: "the disk is full" },
  ENOTEMPTY: { code: "file_conflict", message: "the directory is not empty" },
  EISDIR: { code: "file_conflict", message: "this is a directory" },
  EACCES: { code: "file_conflict", message: "the file's mode does not permit this" },
};

function translated(error: unknown): unknown {
  const known = CODES[(error as NodeJS.ErrnoException).code ?? ""];
  if (error instanceof AppError || known === undefined) return error;
  return new AppError(known.code, known.message, { cause: error });
}
