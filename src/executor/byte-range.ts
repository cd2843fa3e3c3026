/** What of a file a GET or HEAD is answered with (RFC 9110, one range): bytes `start` to before `end`, none for 304 and 416. */
export type Part = { status: 200 | 206 | 304 | 416; start: number; end: number; headers: Record<string, string> };

/** `etag` with its quotes. The headers are those of the answer: length, range, validators. */
export function partOf(asked: Headers, file: { etag: string; size: number; modified: Date }): Part {
  const { etag, size, modified } = file;
  const common = {
    ETag: etag,
    "Last-Modified": modified.toUTCString(),
    "Accept-Ranges": "bytes",
    "Content-Type": "application/octet-stream",
  };
  const none = (status: 304 | 416, more: Record<string, string>): Part => {
    return { status, start: 0, end: 0, headers: { ...common, ...more } };
  };
  if (matches(asked.get("if-none-match"), etag)) return none(304, {});
  const isRanged = asked.get("if-range") === null || asked.get("if-range") === etag;
  const range = isRanged ? rangeOf(asked.get("range"), size) : null;
  if (range === "unsatisfiable") return none(416, { "Content-Range": `bytes */${size}` });
  const { start, end } = range ?? { start: 0, end: size };
  const headers: Record<string, string> = { ...common, "Content-Length": String(end - start) };
  if (range !== null) headers["Content-Range"] = `bytes ${start}-${end - 1}/${size}`;
  return { status: range === null ? 200 : 206, start, end, headers };
}

function matches(header: string | null, etag: string): boolean {
  return (
    header !== null && header.split(",").some((one) => one.trim() === "*" || one.trim().replace(/^W\//, "") === etag)
  );
}

/**
 * Null: no range, or one that is ignored because it is not a single byte range. It takes what Bun takes for one: for a 200
 * with a file as its body Bun would answer 206 or 416 by itself, in a shape that is not the API's.
 */
function rangeOf(header: string | null, size: number): { start: number; end: number } | "unsatisfiable" | null {
  const [, first = "", last = ""] = /^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header ?? "") ?? [];
  if (first === "" && last === "") return null;
  if (first === "") {
    const start = Math.max(0, size - Number(last));
    return start < size ? { start, end: size } : "unsatisfiable";
  }
  const start = Number(first);
  const end = last === "" ? size : Math.min(size, Number(last) + 1);
  if (start >= size) return "unsatisfiable";
  return last !== "" && Number(last) < start ? null : { start, end };
}
