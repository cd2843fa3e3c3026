import { AppError } from "../errors.ts";
import { splitPath } from "./beneath.ts";
import type { TreeFile, WorkspaceTree } from "./protocol.ts";
import { MAX_PATH_BYTES, MAX_TREE_ENTRIES } from "./tree.ts";

const SHA256 = /^[0-9a-f]{64}$/;
const MODE = /^[01][0-7]{3}$/;
/** What a Date can hold, in milliseconds from the epoch. */
const MAX_INSTANT_MS = 8.64e15;
/** As long as the kernel takes a link's target. */
const MAX_TARGET_BYTES = 4096;

type Fields = Record<string, unknown>;

/**
 * What a workspace has, as an executor says it, which in a Pod may be anybody: throws `executor_unavailable` for what ours does
 * not say, and `body_too_large` as ours would.
 */
export function checkedTree(said: unknown, maxBytes: number): WorkspaceTree {
  const { tag, skipped, entries, directories, links } = fields(said);
  if (typeof tag !== "string" || !SHA256.test(tag)) throw fault("no tag");
  const lists = [entries, directories, links].map(list);
  if (lists.reduce((sum, { length }) => sum + length, 0) > MAX_TREE_ENTRIES) throw fault("too many entries");
  const [files = [], folders = [], targets = []] = lists;
  const tree = {
    tag,
    skipped: amount(skipped),
    entries: files.map(fileOf),
    directories: folders.map(({ path, mode }) => ({ path: pathOf(path), mode: modeOf(mode) })),
    links: targets.map(({ path, target }) => ({ path: pathOf(path), target: targetOf(target) })),
  };
  const paths = new Set([...tree.entries, ...tree.directories, ...tree.links].map(({ path }) => path));
  if (paths.size < files.length + folders.length + targets.length) throw fault("a path twice");
  const bytes = tree.entries.reduce((sum, { size }) => sum + size, 0);
  if (bytes > maxBytes) throw new AppError("body_too_large", `the workspace has ${bytes} bytes, more than ${maxBytes}`);
  return tree;
}

function fileOf({ path, mode, size, sha256, modified_ms: modifiedMs }: Fields): TreeFile {
  if (typeof sha256 !== "string" || !SHA256.test(sha256)) throw fault("no hash");
  const file = { path: pathOf(path), mode: modeOf(mode), size: amount(size), sha256 };
  if (modifiedMs === undefined) return file;
  if (typeof modifiedMs !== "number" || !(Math.abs(modifiedMs) <= MAX_INSTANT_MS)) throw fault("no instant");
  return { ...file, modified_ms: Math.floor(modifiedMs) };
}

function pathOf(said: unknown): string {
  if (typeof said !== "string" || Buffer.byteLength(said) > MAX_PATH_BYTES) throw fault("no path");
  try {
    if (said !== "" && splitPath(said).join("/") === said) return said;
  } catch {
    // Said below.
  }
  throw fault("no path of a workspace");
}

function modeOf(said: unknown): string {
  if (typeof said !== "string" || !MODE.test(said)) throw fault("no mode");
  return said;
}

function targetOf(said: unknown): string {
  if (typeof said !== "string" || said.includes("\0") || Buffer.byteLength(said) > MAX_TARGET_BYTES)
    throw fault("no target of a link");
  return said;
}

function amount(said: unknown): number {
  if (typeof said !== "number" || !Number.isSafeInteger(said) || said < 0) throw fault("no amount");
  return said;
}

function list(said: unknown): Fields[] {
  if (!Array.isArray(said)) throw fault("no list");
  return said.map(fields);
}

function fields(said: unknown): Fields {
  if (typeof said !== "object" || said === null) throw fault("no object");
  return said as Fields;
}

function fault(what: string): AppError {
  return new AppError("executor_unavailable", `what the executor says of its workspace can't be used: ${what}`);
}
