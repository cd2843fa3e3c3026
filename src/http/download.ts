import { Type } from "@sinclair/typebox";
import type { FileRead } from "../executor/protocol.ts";
import type { Workspaces } from "../workspaces/workspaces.ts";
import { attachment } from "./content-disposition.ts";
import type { Answer, Exchange, Reply } from "./endpoint.ts";
import { ErrorWithHeaders } from "./errors.ts";
import type { Spool } from "./spool.ts";
import { baseName } from "./workspace-path.ts";

/** What is passed on of the caller's headers, and of the answer's. */
const ASKED = ["range", "if-range", "if-none-match", "if-match", "if-modified-since", "if-unmodified-since"];
const ANSWERED = ["content-range", "accept-ranges", "etag", "last-modified"];

const BODY_STATUSES = [200, 206];

const bytes = { "application/octet-stream": { schema: Type.String({ format: "binary" }) } };

export const downloadAnswers: Record<number, Answer> = {
  200: { description: "The bytes.", content: bytes },
  206: { description: "The bytes of the range.", content: bytes },
  304: { description: "The file is the one that the caller has." },
};

/**
 * The file's bytes with their length, or as a stream when they are too many to be held. It is always an attachment of no
 * type that a browser would run: what a sandbox wrote must not act in the name of this origin.
 */
export async function download(
  workspaces: Workspaces,
  spool: Spool,
  { request, tenant }: Exchange,
  sessionId: string,
  path: string,
): Promise<Reply> {
  const asked = only(ASKED, request.headers);
  const read = (method: "GET" | "HEAD"): Promise<Response> =>
    workspaces.read(tenant, sessionId, path, method, asked, request.signal);
  const head = await read("HEAD");
  const file = request.method === "GET" && BODY_STATUSES.includes(head.status) ? await read("GET") : head;
  if (file.status === 416) {
    await file.body?.cancel();
    const size = file.headers.get("content-range") ?? "";
    throw new ErrorWithHeaders("range_not_satisfiable", "the file has no such bytes", { "Content-Range": size });
  }
  const headers: Record<string, string> = {
    "Content-Type": "application/octet-stream",
    "Content-Disposition": attachment(baseName(path)),
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "no-cache",
  };
  for (const [name, value] of only(ANSWERED, file.headers)) headers[name] = value;
  const { status } = file;
  if (file === head) headers["Content-Length"] = head.headers.get("content-length") ?? "0";
  if (file.body === null) return { status, headers };
  const isHeld = spool.hasRoomFor(Number(head.headers.get("content-length")));
  return { status, headers, ...(isHeld ? { whole: await spool.hold(file.body) } : { stream: file.body }) };
}

function only(names: readonly string[], headers: Headers): Headers {
  const kept = new Headers();
  for (const name of names) {
    const value = headers.get(name);
    if (value !== null) kept.set(name, value);
  }
  return kept;
}
