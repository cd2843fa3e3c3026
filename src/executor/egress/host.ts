import { isIPv4, isIPv6 } from "node:net";

/** A host as one parser reads it: everything after this works on this value, never on the text again. */
export type Host = { kind: "name"; name: string } | { kind: "ip"; address: string };

export type Target = { host: Host; port: number };

const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * Reads a host name (RFC 1123, ASCII, at most 253 characters, one final dot dropped), a dotted IPv4 address or an IPv6
 * address in brackets. Null for anything else, so also for NUL, spaces, `%`, user info, and the octal, hexadecimal and
 * short forms of IPv4 that resolvers read in different ways.
 */
export function parseHost(text: string): Host | null {
  if (text.startsWith("[")) {
    const inner = text.endsWith("]") ? text.slice(1, -1) : "";
    return isIPv6(inner) && !inner.includes("%") ? { kind: "ip", address: canonicalIpv6(inner) } : null;
  }
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return isIPv4(text) ? { kind: "ip", address: text } : null;
  const name = text.toLowerCase().replace(/\.$/, "");
  const labels = name.split(".");
  const last = labels.at(-1) ?? "";
  if (name.length > 253 || !labels.every((label) => LABEL.test(label)) || /^(\d+|0x[0-9a-f]*)$/.test(last)) return null;
  return { kind: "name", name };
}

/** Reads `host:port`; the port is needed unless `defaultPort` is given. */
export function parseTarget(text: string, defaultPort?: number): Target | null {
  const match = /^(\[[^\]]*\]|[^:]*)(?::([1-9]\d{0,4}))?$/.exec(text);
  const host = match === null ? null : parseHost(match[1] ?? "");
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (host === null || port === undefined || port > 65_535) return null;
  return { host, port };
}

/** The host as the audit log shows it: IPv6 without brackets. */
export function formatHost(host: Host): string {
  return host.kind === "name" ? host.name : host.address;
}

/** The shortest lower-case form, by the WHATWG URL parser. */
function canonicalIpv6(text: string): string {
  return new URL(`http://[${text}]/`).hostname.slice(1, -1);
}
