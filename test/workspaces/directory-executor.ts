import { readdirSync } from "node:fs";
import { AppError } from "../../src/errors.ts";
import { restoreTree } from "../../src/executor/archive.ts";
import type { Executor, SandboxState, TreeOptions, WorkspaceTree } from "../../src/executor/protocol.ts";
import { WorkspaceFiles } from "../../src/executor/files.ts";
import { TreeReader } from "../../src/executor/tree.ts";

type Used = Pick<Executor, "tree" | "readFile" | "restoreTree" | "listSandboxes" | "deleteSandbox">;

/** Of an executor what versions need, with its own code, on a directory; `hooks` run before what they are named after. */
export class DirectoryExecutor implements Used {
  readonly root: string;
  /** Id of the sandbox that is there. */
  sandbox: string | null = null;
  trees = 0;
  reads: string[] = [];
  hooks: { tree?: () => Promise<void>; read?: (path: string) => Promise<void> } = {};
  readonly #reader: TreeReader;
  readonly #files: WorkspaceFiles;

  constructor(root: string) {
    this.root = root;
    this.#reader = new TreeReader(root);
    const beginUpload = () => Promise.resolve({ take: () => true, end: () => {} });
    this.#files = new WorkspaceFiles(root, { beginUpload });
  }

  /** All that the code under test calls is here. */
  get asExecutor(): Executor {
    return this as unknown as Executor;
  }

  async tree(_id: string, { known, maxBytes }: TreeOptions): Promise<WorkspaceTree | null> {
    this.trees++;
    const tree = await this.#reader.read(maxBytes);
    await this.hooks.tree?.();
    return tree.tag === known ? null : tree;
  }

  async readFile(_id: string, path: string, method: "GET" | "HEAD", headers: Headers) {
    this.reads.push(path);
    await this.hooks.read?.(path);
    const { status, headers: answered, body } = await this.#files.read(path, method, headers);
    return { status, headers: answered, body };
  }

  async restoreTree(_id: string, archive: ReadableStream<Uint8Array>): Promise<void> {
    // All that an executor can say of an archive that ends too soon.
    await restoreTree(this.root, archive).catch((error: unknown) => {
      throw new AppError("bad_request", "the archive is cut", { cause: error });
    });
  }

  async listSandboxes(): Promise<SandboxState[]> {
    if (this.sandbox === null) return [];
    return [{ id: this.sandbox, status: "running", workspacePath: "/workspace", timing: {}, pool: null }];
  }

  async deleteSandbox(): Promise<void> {
    this.sandbox = null;
  }

  /** Names in it, sorted. */
  get names(): string[] {
    return readdirSync(this.root).toSorted();
  }
}
