import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readlinkSync, type Stats } from "node:fs";
import { AppError } from "../errors.ts";

/** Where a workspace is inside its sandbox; absolute links there start with it. */
const INSIDE = "/workspace";
/** As many as the kernel follows. */
const MAX_LINKS = 40;
/** Directories inside each other that are entered: each takes a descriptor on the way. */
const MAX_DEPTH = 256;
const O_PATH = 0o10000000;
const DIRECTORY = O_PATH | constants.O_NOFOLLOW | constants.O_DIRECTORY;

/** An open directory and a name in it. `parent` must be closed by `close`. `name` is "" for the root itself. */
export type Place = { parent: number; name: string; close(): void };

/**
 * Reads a caller's path into names. `invalid_path` for an absolute one, `..`, NUL, an empty name in between, or one that no
 * file system takes.
 */
export function splitPath(path: string): string[] {
  if (path.startsWith("/")) throw new AppError("invalid_path", "a path is relative to the workspace");
  const names = path
    .replace(/\/+$/, "")
    .split("/")
    .filter((name) => name !== ".");
  if (names.length === 1 && names[0] === "") return [];
  for (const name of names) {
    if (name === "..") throw new AppError("invalid_path", "a path may not hold ..");
    if (name === "" || name.includes("\0") || Buffer.byteLength(name) > 255 || name.includes("\ufffd"))
      throw new AppError("invalid_path", "a name in the path is empty, too long or holds what no name may");
  }
  return names;
}

/** The path by which the kernel finds `name` in an open directory, whatever its path is meanwhile. */
export function at(parent: number, name: string): string {
  return `/proc/self/fd/${parent}/${name}`;
}

/** What is at a path, links not followed. Null for what is gone meanwhile, or closed by the mode of a directory above it. */
export function statsIfSeen(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch {
    return null;
  }
}

/**
 * Walks from `root` to the directory that holds the last of `names`, one open directory at a time, so that nothing that is
 * swapped meanwhile leads out. Links are followed by hand and never out of the root; with `followLast` also the last name.
 * `makeParents` makes what is missing on the way (`made` is told the open directory and the name).
 */
export function openPlace(
  root: string,
  names: readonly string[],
  options: { followLast: boolean; makeParents?: (parent: number, name: string) => void },
): Place {
  const opened = [openSync(root, DIRECTORY)];
  const todo = [...names];
  let links = 0;
  const top = (): number => opened.at(-1) ?? -1;
  const close = (): void => opened.forEach((fd) => closeSync(fd));
  try {
    for (;;) {
      const name = todo.shift();
      if (name === undefined) return { parent: top(), name: "", close };
      if (name === "..") {
        if (opened.length === 1)
          throw new AppError("invalid_path", "the path leaves the workspace through a symbolic link");
        closeSync(opened.pop() ?? -1);
        continue;
      }
      const isLast = todo.length === 0;
      const link = isLast && !options.followLast ? null : linkTarget(top(), name);
      if (link === null) {
        if (isLast) return { parent: top(), name, close };
        if (opened.length > MAX_DEPTH)
          throw new AppError("invalid_path", "the path leads through too many directories");
        opened.push(openDirectory(top(), name, options.makeParents));
        continue;
      }
      if (++links > MAX_LINKS) throw new AppError("invalid_path", "the path leads through too many symbolic links");
      if (link.startsWith("/")) while (opened.length > 1) closeSync(opened.pop() ?? -1);
      todo.unshift(...namesOf(link));
    }
  } catch (error) {
    close();
    throw error;
  }
}

function linkTarget(parent: number, name: string): string | null {
  try {
    return lstatSync(at(parent, name)).isSymbolicLink() ? readlinkSync(at(parent, name)) : null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "EINVAL") return null;
    throw error;
  }
}

/** The names of a link's target. An absolute one counts from the workspace, since that is where the sandbox has it. */
function namesOf(target: string): string[] {
  if (target.startsWith("/") && target !== INSIDE && !target.startsWith(`${INSIDE}/`))
    throw new AppError("invalid_path", "the path leaves the workspace through a symbolic link");
  const relative = target.startsWith("/") ? target.slice(INSIDE.length) : target;
  return relative.split("/").filter((name) => name !== "" && name !== ".");
}

function openDirectory(parent: number, name: string, makeParents?: (parent: number, name: string) => void): number {
  try {
    return openSync(at(parent, name), DIRECTORY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOTDIR" || code === "ELOOP") throw notDirectory(name);
    if (code !== "ENOENT" || makeParents === undefined) throw error;
  }
  makeParents(parent, name);
  return openSync(at(parent, name), DIRECTORY);
}

function notDirectory(name: string): AppError {
  return new AppError("file_conflict", `${name} is not a directory`);
}

/** Makes a directory and gives it to its owner, by the open directory and not by its path. One that exists is left alone. */
export function makeDirectoryAt(
  parent: number,
  name: string,
  owner: { uid: number; gid: number } | undefined,
  chown: (fd: number) => void,
): void {
  try {
    mkdirSync(at(parent, name), { mode: 0o755 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return;
    throw error;
  }
  if (owner === undefined) return;
  const fd = openSync(at(parent, name), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const stats = fstatSync(fd);
    if (stats.uid === process.geteuid?.()) chown(fd);
  } finally {
    closeSync(fd);
  }
}
