import { containersIn } from "./json-scan.ts";

/**
 * A JSON value as its text: valid, on one line, and as it was written, since numbers lose digits when they are parsed.
 * Whoever takes one from outside has parsed the text first.
 */
export type RawJson = string & { readonly [BRAND]: never };
declare const BRAND: unique symbol;

/** The text of a value that is JSON. */
export function rawJson(value: object | string | number | boolean): RawJson {
  return JSON.stringify(value) as RawJson;
}

/** An object as JSON with one more member, which comes last and must not be there already; null: the JSON word. */
export function withMember(object: object, name: string, value: RawJson | null): RawJson {
  const text = JSON.stringify(object);
  const separator = text === "{}" ? "" : ",";
  return `${text.slice(0, -1)}${separator}${JSON.stringify(name)}:${value ?? "null"}}` as RawJson;
}

/**
 * The text of a member of an object, whose JSON `text` is: the last of that name, as `JSON.parse` takes it. Null when there
 * is none or it is null. What it says of a text that `JSON.parse` refuses means nothing.
 */
export function memberOf(text: string, name: string): RawJson | null {
  const found = memberText(text, name);
  return found === "null" ? null : found;
}

/** As `memberOf`, but a member that is null is the JSON word. */
export function memberText(text: string, name: string): RawJson | null {
  let found: string | null = null;
  const start = skipSpace(text, 0);
  if (text[start] !== "{") return null;
  let at = skipSpace(text, start + 1);
  while (text[at] === '"') {
    const keyEnd = endOfString(text, at);
    const isWanted = JSON.parse(text.slice(at, keyEnd)) === name;
    const from = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const end = endOfValue(text, from);
    if (isWanted) found = text.slice(from, end);
    at = skipSpace(text, skipSpace(text, end) + 1);
  }
  // A line break in JSON is between tokens.
  return found === null ? null : (found.replaceAll(/[\r\n]/g, " ") as RawJson);
}

/** The text again, or null for the JSON word. Throws SyntaxError when it is not JSON. */
export function checkedJson(text: string): RawJson | null {
  containersIn(text);
  const trimmed = text.trim();
  return trimmed === "null" ? null : (trimmed.replaceAll(/[\r\n]/g, " ") as RawJson);
}

/** A text up to here is parsed whatever is in it. */
const SMALL = 64 * 1024;

/**
 * The value of a text that may be anybody's. Throws SyntaxError when it is not JSON, or has more than `most` objects and lists:
 * an empty one takes some 30 times the memory of its text.
 */
export function parseWithin(text: string, most: number): unknown {
  if (text.length > SMALL && containersIn(text) > most) throw new SyntaxError(`more than ${most} objects and lists`);
  return JSON.parse(text);
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (at < text.length && " \t\r\n".includes(text.charAt(at))) at++;
  return at;
}

/** After the closing quote of the string that starts at `from`. */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    const character = text[at];
    if (character === '"') return at + 1;
    if (character === "\\") at++;
  }
  return text.length;
}

/** After the value that starts at `from`. */
function endOfValue(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const character = text[at];
    if (character === '"') {
      at = endOfString(text, at) - 1;
      if (depth === 0) return at + 1;
    } else if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") {
      if (depth-- === 0) return at;
      if (depth === 0) return at + 1;
    } else if (depth === 0 && (character === "," || " \t\r\n".includes(character ?? ""))) return at;
  }
  return text.length;
}
