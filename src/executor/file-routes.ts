import { lstatSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../errors.ts";
import { WorkspaceFiles } from "./files.ts";
import { incomingDir } from "./incoming.ts";
import type { Sandboxes } from "./sandboxes.ts";

export type FileRouteDeps = { sandboxes: Sandboxes; dataDir: string };

/** A request for a workspace, and what follows `files/` in it, decoded. */
type FileCall = {
  request: Request;
  files: WorkspaceFiles;
  path: string;
  /** See WorkspaceChanges. */
  wroteOutside: (path: string) => void;
};

/**
 * Answers a request for the files of a workspace, whether its sandbox runs or not. `encodedPath` is what follows `files/`.
 * Throws AppError; `session_not_found` when there is no such workspace.
 */
export async function fileRoute(
  request: Request,
  url: URL,
  encodedPath: string,
  sandboxId: string,
  deps: FileRouteDeps,
): Promise<Response> {
  const files = filesOf(sandboxId, deps);
  const path = decode(encodedPath);
  const query = url.searchParams;
  const wroteOutside = (written: string): void => deps.sandboxes.find(sandboxId)?.changes.wroteOutside(written);
  const call = { request, files, path, wroteOutside };
  switch (request.method) {
    case "GET":
    case "HEAD":
      if (encodedPath === "" && request.method === "GET") return list(files, query);
      return files.read(path, request.method, request.headers, request.signal);
    case "PUT":
      return put(call, Number(query.get("limit") ?? Number.MAX_SAFE_INTEGER));
    case "DELETE":
      await files.remove(path);
      return new Response(null, { status: 204 });
    case "POST":
      return change(call);
    default:
      throw new AppError("method_not_allowed", "files have no such method");
  }
}

async function list(files: WorkspaceFiles, query: URLSearchParams): Promise<Response> {
  const options = { recursive: query.get("recursive") === "true", limit: Number(query.get("limit") ?? 1000) };
  return Response.json(await files.list(query.get("path") ?? "", options));
}

async function put({ request, files, path, wroteOutside }: FileCall, limitBytes: number): Promise<Response> {
  const written = await files.write(path, request.body ?? new Blob([]).stream(), limitBytes);
  wroteOutside(written.path);
  return Response.json(written);
}

/** The path is a verb here: `move` or `mkdir`. */
async function change({ request, files, path: verb, wroteOutside }: FileCall): Promise<Response> {
  const body = (await request.json()) as { from?: string; to?: string; path?: string };
  if (verb === "move" && body.from !== undefined && body.to !== undefined) {
    await files.move(body.from, body.to);
    wroteOutside(body.to);
  } else if (verb === "mkdir" && body.path !== undefined) await files.makeDirectory(body.path);
  else throw new AppError("bad_request", "files can be moved and directories made");
  return new Response(null, { status: 204 });
}

function filesOf(sandboxId: string, { sandboxes, dataDir }: FileRouteDeps): WorkspaceFiles {
  const jailed = sandboxes.find(sandboxId)?.jailed;
  if (jailed !== undefined) return new WorkspaceFiles(jailed.workspaceDir, jailed);
  const own = sandboxes.workspaceOf(sandboxId);
  const directory = own ?? join(dataDir, "workspaces", sandboxId);
  const stats = lstatSync(directory, { throwIfNoEntry: false });
  if (stats?.isDirectory() !== true) throw new AppError("session_not_found", `there is no workspace ${sandboxId}`);
  const beginUpload = () => Promise.resolve({ take: () => true, end: () => {} });
  // As while its sandbox was there: the directory is a mount of another's, and another file system than the data directory.
  if (own !== null) return new WorkspaceFiles(directory, { owner: undefined, incomingDir: undefined, beginUpload });
  const owner = { uid: stats.uid, gid: stats.gid };
  return new WorkspaceFiles(directory, { owner, incomingDir: incomingDir(dataDir), beginUpload });
}

function decode(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch (error) {
    throw new AppError("invalid_path", "the path is not valid UTF-8", { cause: error });
  }
}
