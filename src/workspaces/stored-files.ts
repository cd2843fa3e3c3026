import { AppError } from "../errors.ts";
import { partOf } from "../executor/byte-range.ts";
import type { Executor, FileEntry, FileRead } from "../executor/protocol.ts";
import type { Manifest, ManifestEntry, Objects } from "../objects/objects.ts";

type Node =
  | { type: "file"; entry: ManifestEntry }
  | { type: "directory"; mode: string; names: string[] }
  | { type: "symlink"; target: string };

/** As many as the kernel follows. */
const MAX_LINKS = 40;
/** Where a workspace is inside its sandbox; absolute links there start with it. */
const INSIDE = "/workspace";

/** The files of one stored version, answered as an executor answers for a workspace. */
export class StoredFiles implements Pick<Executor, "listFiles" | "readFile"> {
  readonly #objects: Objects;
  readonly #storedMs: number;
  readonly #nodes = new Map<string, Node>([["", { type: "directory", mode: "0755", names: [] }]]);

  /** Null: a workspace of which nothing was stored, which is empty. */
  constructor(objects: Objects, manifest: Manifest | null) {
    this.#objects = objects;
    this.#storedMs = Date.parse(manifest?.created_at ?? new Date(0).toISOString());
    const { entries = [], directories = [], links = [] } = manifest ?? {};
    for (const { path, mode } of directories) this.#directory(path).mode = mode;
    for (const { path, target } of links) this.#add(path, { type: "symlink", target });
    for (const entry of entries) this.#add(entry.path, { type: "file", entry });
    for (const node of this.#nodes.values()) if (node.type === "directory") node.names = node.names.toSorted();
  }

  #add(path: string, node: Node): void {
    const cut = path.lastIndexOf("/");
    this.#directory(path.slice(0, Math.max(0, cut))).names.push(path.slice(cut + 1));
    this.#nodes.set(path, node);
  }

  #directory(path: string): Node & { type: "directory" } {
    const found = this.#nodes.get(path);
    if (found?.type === "directory") return found;
    const made = { type: "directory" as const, mode: "0755", names: [] };
    this.#add(path, made);
    return made;
  }

  async listFiles(
    _sandboxId: string,
    path: string,
    { recursive, limit }: { recursive: boolean; limit: number },
  ): Promise<FileEntry[]> {
    const start = this.#resolve(path);
    if (this.#nodes.get(start)?.type !== "directory") return [{ ...this.#entryOf(start), path }];
    const found: FileEntry[] = [];
    const open = [start];
    for (let at = open.shift(); at !== undefined; at = open.shift()) {
      const node = this.#nodes.get(at);
      for (const name of node?.type === "directory" ? node.names : []) {
        if (found.length >= limit) return found;
        const child = at === "" ? name : `${at}/${name}`;
        found.push(this.#entryOf(child));
        if (recursive && this.#nodes.get(child)?.type === "directory") open.push(child);
      }
    }
    return found;
  }

  async readFile(_sandboxId: string, path: string, method: "GET" | "HEAD", headers: Headers): Promise<FileRead> {
    const entry = this.fileAt(path);
    const modified = new Date(entry.modified_ms ?? this.#storedMs);
    const part = partOf(headers, { etag: etagOf(entry), size: entry.size, modified });
    const { status, start, end } = part;
    const answer = { status, headers: new Headers(part.headers), body: null };
    if (method === "HEAD" || status === 304 || status === 416) return answer;
    const blob = await this.#objects.get(entry.sha256, { start, end });
    if (blob === null) throw new AppError("internal", "a stored file is not in the store");
    return { ...answer, body: blob.body };
  }

  /** The file at a path, through links. `file_not_found`, `file_conflict` for what is no file. */
  fileAt(path: string): ManifestEntry {
    const node = this.#nodes.get(this.#resolve(path));
    if (node?.type === "file") return node.entry;
    throw new AppError("file_conflict", `${path === "" ? "the workspace" : path} is not a regular file`);
  }

  /** The path without links on its way. */
  #resolve(path: string): string {
    const todo = namesOf(path);
    const done: string[] = [];
    let links = 0;
    for (let name = todo.shift(); name !== undefined; name = todo.shift()) {
      if (name === "..") {
        if (done.pop() === undefined) throw leaves();
        continue;
      }
      done.push(name);
      const node = this.#nodes.get(done.join("/"));
      if (node === undefined || (node.type === "file" && todo.length > 0))
        throw new AppError("file_not_found", "there is no such file");
      if (node.type !== "symlink") continue;
      if (++links > MAX_LINKS) throw new AppError("invalid_path", "the path leads through too many symbolic links");
      done.pop();
      if (node.target.startsWith("/")) done.length = 0;
      todo.unshift(...namesOf(node.target));
    }
    return done.join("/");
  }

  #entryOf(path: string): FileEntry {
    const node = this.#nodes.get(path);
    const name = path.slice(path.lastIndexOf("/") + 1);
    const common = { name, path, modifiedMs: this.#storedMs };
    if (node?.type === "file") {
      const { entry } = node;
      const modifiedMs = entry.modified_ms ?? this.#storedMs;
      return { ...common, modifiedMs, size: entry.size, etag: etagOf(entry), type: "file", mode: entry.mode };
    }
    const etag = `"${this.#storedMs.toString(36)}"`;
    if (node?.type === "symlink")
      return { ...common, size: Buffer.byteLength(node.target), etag, type: "symlink", mode: "0777" };
    return { ...common, size: 0, etag, type: "directory", mode: node?.mode ?? "0755" };
  }
}

function namesOf(path: string): string[] {
  if (path.startsWith("/") && path !== INSIDE && !path.startsWith(`${INSIDE}/`)) throw leaves();
  const relative = path.startsWith("/") ? path.slice(INSIDE.length) : path;
  return relative.split("/").filter((name) => name !== "" && name !== ".");
}

function leaves(): AppError {
  return new AppError("invalid_path", "the path leaves the workspace through a symbolic link");
}

function etagOf({ sha256 }: ManifestEntry): string {
  return `"${sha256.slice(0, 32)}"`;
}
