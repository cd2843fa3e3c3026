import { Type } from "@sinclair/typebox";
import { AppError } from "../errors.ts";
import type { FileEntry, FileWritten } from "../executor/protocol.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { Workspaces } from "../workspaces/workspaces.ts";
import { tooLarge } from "./body.ts";
import { download, downloadAnswers } from "./download.ts";
import { endpoint, type Endpoint } from "./endpoint.ts";
import { boundaryOf, openPart } from "./multipart.ts";
import { presign } from "./presign.ts";
import { BODY_ERRORS, Bytes, Instant, jsonAnswer, oneOf, SessionId } from "./schemas.ts";
import { baseName, checkPath, decodePath } from "./workspace-path.ts";

const DEFAULT_LIMIT = 1000;
const MAX_LIMIT = 10_000;
/** What a form may have beside its file, when its length is checked before it arrives. */
const FORM_BYTES = 64 * 1024;

const FileView = Type.Object(
  {
    name: Type.String({ examples: ["in.csv"] }),
    container_path: Type.String({ description: "Path in the sandbox.", examples: ["/workspace/data/in.csv"] }),
    size: Type.Integer({ examples: [2048] }),
    modified_time: Instant,
    etag: Type.String({ examples: ["1a2b-800"] }),
    type: oneOf(["file", "directory", "symlink", "other"]),
    mode: Type.String({ examples: ["0644"] }),
  },
  { $id: "File" },
);

const WrittenView = Type.Object(
  {
    session_id: SessionId,
    file_path: Type.String({ examples: ["data/in.csv"] }),
    size: Type.Integer({ examples: [2048] }),
  },
  { $id: "FileWritten" },
);

const PathShown = Type.String({ examples: ["report/final.txt"] });

const PATH_ERRORS = [
  "invalid_path",
  "session_not_found",
  "session_ended",
  "file_not_found",
  "executor_unavailable",
] as const;
const WRITE_ERRORS = [
  ...PATH_ERRORS,
  "bad_request",
  "file_conflict",
  "body_too_large",
  "request_timeout",
  "disk_full",
] as const;
const FILE_PATH = "/api/v1/sessions/:session_id/files/*";

/** Routes of a session's files. `maxFileBytes` bounds one file. */
export function fileEndpoints(workspaces: Workspaces, sessions: Sessions, maxFileBytes: number): Endpoint[] {
  const tag = "files";
  const written = jsonAnswer("The file as it was stored.", WrittenView);

  const list = endpoint({
    method: "GET",
    path: "/api/v1/sessions/:session_id/files",
    tag,
    summary: "List files",
    query: Type.Object({
      path: Type.Optional(Type.String({ default: "", description: "A directory or a file; empty is the workspace." })),
      limit: Type.Optional(Type.Integer({ default: DEFAULT_LIMIT, description: `Clamped to 1–${MAX_LIMIT}.` })),
      recursive: Type.Optional(Type.Boolean({ default: true, description: "Also what is in its directories." })),
    }),
    answers: {
      200: jsonAnswer(
        "What is there.",
        Type.Object({ session_id: SessionId, files: Type.Array(FileView), count: Type.Integer() }),
      ),
    },
    errors: ["validation_failed", ...PATH_ERRORS],
    async handle({ tenant, params: { session_id }, query }) {
      const path = checkPath(query.path ?? "").replace(/\/+$/, "");
      const limit = Math.min(MAX_LIMIT, Math.max(1, query.limit ?? DEFAULT_LIMIT));
      const { workspace_path } = await sessions.get(tenant, session_id);
      const entries = await workspaces.list(tenant, session_id, path, { recursive: query.recursive ?? true, limit });
      const files = entries.map((entry) => shapeFile(entry, workspace_path));
      return { status: 200, json: { session_id, files, count: files.length } };
    },
  });

  const upload = endpoint({
    method: "POST",
    path: "/api/v1/sessions/:session_id/files/upload",
    tag,
    summary: "Upload a file of a form",
    description: "The body is read as it arrives. Missing directories are made.",
    query: Type.Object({
      path: Type.Optional(
        Type.String({
          description: "Where to; a directory when it is empty or ends with /, where the file keeps its name.",
        }),
      ),
    }),
    rawBody: { "multipart/form-data": Type.Object({ file: Bytes }) },
    answers: { 200: written },
    errors: ["unsupported_media_type", "validation_failed", ...WRITE_ERRORS],
    async handle({ tenant, params: { session_id }, query, request, receive }) {
      const boundary = boundaryOf(request.headers.get("content-type"));
      checkLength(request.headers, maxFileBytes, FORM_BYTES);
      await sessions.get(tenant, session_id);
      const { filename, body } = await openPart(receive(), boundary, "file");
      const file = await workspaces.write(tenant, session_id, targetOf(query.path ?? "", filename), body, maxFileBytes);
      return { status: 200, json: shapeWritten(session_id, file) };
    },
  });

  const put = endpoint({
    method: "PUT",
    path: FILE_PATH,
    tag,
    summary: "Store a file",
    description: "The body is the file. Missing directories are made; the file appears whole or not at all.",
    rawBody: { "application/octet-stream": Bytes },
    answers: { 200: { ...written, description: "An existing file was replaced." }, 201: written },
    errors: WRITE_ERRORS,
    async handle({ tenant, params, request, receive }) {
      const path = filePathOf(params["*"]);
      checkLength(request.headers, maxFileBytes, 0);
      const file = await workspaces.write(tenant, params.session_id, path, receive(), maxFileBytes);
      return { status: file.created ? 201 : 200, json: shapeWritten(params.session_id, file) };
    },
  });

  const reads = (["GET", "HEAD"] as const).map((method) =>
    endpoint({
      method,
      path: FILE_PATH,
      tag,
      summary: method === "GET" ? "Download a file" : "Read a file's size, date and ETag",
      query: Type.Object({
        presign: Type.Optional(
          Type.Boolean({ default: false, description: "A URL of the object store in place of the bytes." }),
        ),
      }),
      headers: { Range: "Bytes to send.", "If-None-Match": "An ETag; 304 when the file still has it." },
      answers: downloadAnswers,
      errors: [...PATH_ERRORS, "range_not_satisfiable", "not_implemented"],
      async handle(call) {
        const path = filePathOf(call.params["*"]);
        if (call.query.presign === true) return presign(workspaces, call, call.params.session_id, path);
        return download(workspaces, call, call.params.session_id, path, method);
      },
    }),
  );

  const remove = endpoint({
    method: "DELETE",
    path: FILE_PATH,
    tag,
    summary: "Delete a file, or a directory with all that is in it",
    answers: { 204: { description: "It is gone." } },
    errors: PATH_ERRORS,
    async handle({ tenant, params }) {
      await workspaces.remove(tenant, params.session_id, decodePath(params["*"]));
      return { status: 204 };
    },
  });

  const move = endpoint({
    method: "POST",
    path: "/api/v1/sessions/:session_id/files/move",
    tag,
    summary: "Move or rename",
    body: Type.Object(
      {
        from: Type.String({ minLength: 1, examples: ["draft.txt"] }),
        to: Type.String({ minLength: 1, examples: ["report/final.txt"] }),
      },
      { $id: "FileMove" },
    ),
    answers: {
      200: jsonAnswer("Moved.", Type.Object({ session_id: SessionId, from: PathShown, to: PathShown })),
    },
    errors: [...BODY_ERRORS, ...PATH_ERRORS, "file_exists", "file_conflict"],
    async handle({ tenant, params: { session_id }, body: { from, to } }) {
      await workspaces.move(tenant, session_id, checkPath(from), checkPath(to));
      return { status: 200, json: { session_id, from, to } };
    },
  });

  const makeDirectory = endpoint({
    method: "POST",
    path: "/api/v1/sessions/:session_id/files/mkdir",
    tag,
    summary: "Make a directory, and those above it",
    body: Type.Object({ path: Type.String({ minLength: 1, examples: ["report"] }) }, { $id: "DirectoryInput" }),
    answers: { 200: jsonAnswer("Made.", Type.Object({ session_id: SessionId, path: PathShown })) },
    errors: [...BODY_ERRORS, ...PATH_ERRORS, "file_conflict", "disk_full"],
    async handle({ tenant, params: { session_id }, body: { path } }) {
      await workspaces.makeDirectory(tenant, session_id, checkPath(path));
      return { status: 200, json: { session_id, path } };
    },
  });

  return [list, upload, put, ...reads, remove, move, makeDirectory];
}

function shapeFile(entry: FileEntry, workspacePath: string) {
  return {
    name: entry.name,
    container_path: `${workspacePath}/${entry.path}`,
    size: entry.size,
    modified_time: new Date(entry.modifiedMs).toISOString(),
    etag: entry.etag,
    type: entry.type,
    mode: entry.mode,
  };
}

function shapeWritten(sessionId: string, file: FileWritten) {
  return { session_id: sessionId, file_path: file.path, size: file.size };
}

function filePathOf(encoded: string): string {
  const path = decodePath(encoded);
  if (path.endsWith("/")) throw new AppError("invalid_path", "a file's path can't end with /");
  return path;
}

function targetOf(path: string, filename: string): string {
  if (path !== "" && !path.endsWith("/")) return checkPath(path);
  const name = baseName(filename);
  if (name === "") throw new AppError("invalid_path", "give a path, or a filename in the form");
  return checkPath(path + name);
}

/** Refuses a file that says to be too large before it arrives; its true length is checked as it is written. */
function checkLength(headers: Headers, maxFileBytes: number, allowance: number): void {
  if (Number(headers.get("content-length") ?? 0) > maxFileBytes + allowance) throw tooLarge(maxFileBytes);
}
