import { AppError } from "../errors.ts";
import { restoreTree } from "./archive.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { TreeReader } from "./tree.ts";

/** Answers requests for all of a workspace. */
export class TreeRoutes {
  readonly #sandboxes: Sandboxes;
  /** Of the workspace that was asked for last: an executor whose trees are asked for has one. */
  #last: { directory: string; reader: TreeReader; turn: Promise<unknown> } | null = null;

  constructor(sandboxes: Sandboxes) {
    this.#sandboxes = sandboxes;
  }

  /** Throws AppError; `session_not_found` when there is no such workspace. */
  async answer(request: Request, url: URL, id: string): Promise<Response> {
    if (request.method === "PUT") {
      const archive = request.body ?? new Blob([]).stream();
      await this.#sandboxes.restore(id, (directory) => restoreTree(directory, archive));
      return new Response(null, { status: 204 });
    }
    if (request.method !== "GET") throw new AppError("method_not_allowed", "trees have no such method");
    const directory = this.#sandboxes.workspaceOf(id);
    if (directory === null) throw new AppError("session_not_found", `there is no sandbox ${id}`);
    const query = url.searchParams;
    const tree = await this.#read(directory, Number(query.get("max_bytes") ?? Number.MAX_SAFE_INTEGER));
    return tree.tag === query.get("known") ? new Response(null, { status: 304 }) : Response.json(tree);
  }

  /** One after the other: each has no need to hash what the one before it has. */
  #read(directory: string, maxBytes: number): ReturnType<TreeReader["read"]> {
    if (this.#last?.directory !== directory)
      this.#last = { directory, reader: new TreeReader(directory), turn: Promise.resolve() };
    const { reader, turn } = this.#last;
    const reading = turn.then(() => reader.read(maxBytes));
    // Whoever asked for it is told of its failure; the next one's turn comes all the same.
    this.#last.turn = reading.catch(() => {});
    return reading;
  }
}
