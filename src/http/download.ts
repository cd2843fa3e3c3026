import type { FileRead } from "../executor/protocol.ts";
import type { Workspaces } from "../workspaces/workspaces.ts";
import { attachment } from "./content-disposition.ts";
import type { Answer, Exchange, Reply } from "./endpoint.ts";
import { ErrorWithHeaders } from "./errors.ts";
import { PresignedView } from "./presign.ts";
import { Bytes } from "./schemas.ts";
import { sizedBody } from "./sized-body.ts";
import { baseName } from "./workspace-path.ts";

/** What is passed on of the caller's headers, and of the answer's. */
const ASKED = ["range", "if-range", "if-none-match", "if-match", "if-modified-since", "if-unmodified-since"];
const ANSWERED = ["content-length", "content-range", "accept-ranges", "etag", "last-modified"];

const bytes = { "application/octet-stream": { schema: Bytes } };

export const downloadAnswers: Record<number, Answer> = {
  200: {
    description: "The bytes; with `presign`, where anybody can get them.",
    content: { ...bytes, "application/json": { schema: PresignedView } },
  },
  206: { description: "The bytes of the range.", content: bytes },
  304: { description: "The file is the one that the caller has." },
};

/**
 * The file's bytes, as they come. It is always an attachment of no type that a browser would run: what a sandbox wrote
 * must not act in the name of this origin.
 */
export async function download(
  workspaces: Workspaces,
  { request, tenant }: Exchange,
  sessionId: string,
  path: string,
  method: "GET" | "HEAD",
): Promise<Reply> {
  const file = await workspaces.read(tenant, sessionId, path, method, only(ASKED, request.headers), request.signal);
  if (file.status === 416) {
    await drop(file.body);
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
  const hasBody = method === "GET" && file.status !== 304 && file.body !== null;
  if (!hasBody) await drop(file.body);
  if (!hasBody || file.body === null) return { status: file.status, headers };
  const length = Number(file.headers.get("content-length") ?? Number.NaN);
  if (file.body instanceof Blob || !Number.isSafeInteger(length))
    return { status: file.status, headers, stream: file.body };
  return { status: file.status, headers, stream: await sizedBody(file.body, length, request.signal) };
}

async function drop(body: FileRead["body"]): Promise<void> {
  if (body instanceof ReadableStream) await body.cancel();
}

function only(names: readonly string[], headers: Headers): Headers {
  const kept = new Headers();
  for (const name of names) {
    const value = headers.get(name);
    if (value !== null) kept.set(name, value);
  }
  return kept;
}
