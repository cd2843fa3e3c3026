/** `Content-Disposition` of a download under any file name (RFC 6266): ASCII as `filename`, the true name as `filename*`. */
export function attachment(name: string): string {
  const wellFormed = name.toWellFormed();
  const ascii = wellFormed.replaceAll(/[^\x20-\x7e]|["\\%]/gu, "_");
  const plain = `attachment; filename="${ascii}"`;
  return ascii === name ? plain : `${plain}; filename*=UTF-8''${encodeName(wellFormed)}`;
}

/** Percent-encodes all but RFC 5987's attr-char. */
function encodeName(name: string): string {
  return encodeURIComponent(name).replaceAll(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** The parameters of a header such as `form-data; name="file"; filename="a.txt"`, lower-case names, `filename*` decoded. */
export function parametersOf(header: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, name = "", quoted, token = ""] of header.matchAll(
    /;\s*([\w*-]+)\s*=\s*(?:"((?:\\[\\"]|[^"])*)"|([^;\s]*))/g,
  )) {
    const value = quoted === undefined ? token : quoted.replaceAll(/\\([\\"])/g, "$1");
    found.set(name.toLowerCase(), value);
  }
  const extended = /^utf-8'[^']*'(.*)$/i.exec(found.get("filename*") ?? "")?.[1];
  if (extended !== undefined) found.set("filename", decodeOrKeep(extended));
  return found;
}

function decodeOrKeep(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
