import { parseTarget, type Target } from "./host.ts";

/** The head of a proxy request. `bodyBytes` is how much of the connection belongs to it after the head. */
export type RequestHead =
  | { kind: "connect"; target: Target }
  | {
      kind: "forward";
      target: Target;
      bodyBytes: number;
      /** What to send to the origin, the blank line included. */
      head: string;
    };

/** Why a request is answered with an error instead of being sent on. */
export type BadRequest = { kind: "bad"; status: 400 | 405 | 411 | 501; message: string };

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Visible ASCII and blanks in field values (RFC 9110 5.5), tabs included; no NUL, no bare CR or LF. */
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const HOP_BY_HOP = new Set([
  "connection",
  "proxy-connection",
  "proxy-authorization",
  "keep-alive",
  "te",
  "trailer",
  "upgrade",
]);

function bad(message: string, status: BadRequest["status"] = 400): BadRequest {
  return { kind: "bad", status, message };
}

/**
 * Reads a request head (latin1 text up to its blank line, which is not part of it). One strict reading: a request that two
 * parsers could read in two ways is refused. The Host field sent on is made from the target, never copied.
 */
export function parseRequestHead(text: string): RequestHead | BadRequest {
  const [requestLine = "", ...lines] = text.split("\r\n");
  const [method = "", target = "", version = "", ...more] = requestLine.split(" ");
  if (more.length > 0 || !TOKEN.test(method) || !/^HTTP\/1\.[01]$/.test(version) || !/^[\x21-\x7e]+$/.test(target))
    return bad("malformed request line");
  const fields: [string, string][] = [];
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (colon < 1 || !TOKEN.test(name) || !FIELD_VALUE.test(value)) return bad("malformed header field");
    fields.push([name, value]);
  }
  return method === "CONNECT" ? connectHead(target) : forwardHead(method, target, fields);
}

function connectHead(text: string): RequestHead | BadRequest {
  const target = parseTarget(text);
  return target === null ? bad("CONNECT needs host:port") : { kind: "connect", target };
}

function forwardHead(method: string, url: string, fields: [string, string][]): RequestHead | BadRequest {
  const match = /^http:\/\/([^/?#@\\]+)([/?][^#]*)?$/i.exec(url);
  const target = match === null ? null : parseTarget(match[1] ?? "", 80);
  if (match === null || target === null) return bad("the request needs an absolute http:// address");
  const named = (name: string): string[] => fields.filter(([key]) => key === name).map(([, value]) => value);
  if (named("host").length > 1) return bad("more than one Host");
  if (named("transfer-encoding").length > 0) return bad("send Content-Length instead of a transfer encoding", 411);
  const lengths = named("content-length");
  if (lengths.length > 1 || !/^\d{0,15}$/.test(lengths[0] ?? "")) return bad("unreadable Content-Length");
  const kept = fields.filter(([name]) => !HOP_BY_HOP.has(name) && name !== "host");
  const path = match[2]?.startsWith("?") === true ? `/${match[2]}` : (match[2] ?? "/");
  const head = [
    `${method} ${path} HTTP/1.1`,
    `host: ${match[1]?.toLowerCase()}`,
    ...kept.map(([name, value]) => `${name}: ${value}`),
    "connection: close",
  ];
  return { kind: "forward", target, bodyBytes: Number(lengths[0] ?? 0), head: `${head.join("\r\n")}\r\n\r\n` };
}
