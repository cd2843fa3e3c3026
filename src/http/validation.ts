import { Kind, type Static, type TObject, type TSchema } from "@sinclair/typebox";
import { TypeCompiler } from "@sinclair/typebox/compiler";
import { type ValueError, ValueErrorType } from "@sinclair/typebox/errors";
import { AppError } from "../errors.ts";
import { issuesOf } from "./issues.ts";

/** A check of JSON bodies, compiled once. It throws `validation_failed` and answers the value itself. */
export function compileBody<T extends TObject>(schema: T): (value: unknown) => Static<T> {
  const compiled = TypeCompiler.Compile(schema);
  const dropNulls = nullDropper(schema);
  return (value) => {
    dropNulls(value);
    if (!compiled.Check(value)) refuse("body", value, compiled.Errors(value));
    return value as Static<T>;
  };
}

/** A reader of query strings, compiled once: numbers and booleans are parsed as the schema has them, the last of a name wins. */
export function compileQuery<T extends TObject>(schema: T): (search: string) => Static<T> {
  const compiled = TypeCompiler.Compile(schema);
  const kinds = Object.entries(schema.properties).map(([name, property]) => [name, property[Kind]] as const);
  const mayBeEmpty = (schema.required ?? []).length === 0;
  return (search) => {
    if (search === "" && mayBeEmpty) return {};
    const given = new URLSearchParams(search);
    const value: Record<string, unknown> = {};
    for (const [name, kind] of kinds) {
      const text = given.getAll(name).at(-1);
      if (text !== undefined) value[name] = parseValue(text, kind);
    }
    if (!compiled.Check(value)) refuse("query", value, compiled.Errors(value));
    return value;
  };
}

/** The value that `text` stands for, or the text itself when it stands for none, which the check then refuses. */
function parseValue(text: string, kind: string): unknown {
  if (kind === "Integer") return /^[+-]?\d{1,300}$/.test(text) ? Number(text) : text;
  if (kind === "Number") return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : text;
  if (kind === "Boolean") return { true: true, "1": true, false: false, "0": false }[text.toLowerCase()] ?? text;
  return text;
}

/** Takes null out of the optional fields of an object, and of the objects in its lists: it means the same as no field. */
function nullDropper(schema: TObject): (value: unknown) => void {
  const required = new Set(schema.required ?? []);
  const optional = Object.keys(schema.properties).filter((name) => !required.has(name));
  const lists = Object.entries(schema.properties).flatMap(([name, property]) => {
    const items = property["items"] as TSchema | undefined;
    return items?.[Kind] === "Object" ? [{ name, dropInItem: nullDropper(items as TObject) }] : [];
  });
  return (value) => {
    if (!isRecord(value)) return;
    for (const name of optional) if (value[name] === null) delete value[name];
    for (const { name, dropInItem } of lists) {
      const list = value[name];
      if (Array.isArray(list)) for (const item of list) dropInItem(item);
    }
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Throws `validation_failed`, unless nothing is wrong but that the check counted UTF-16 units in place of characters. */
function refuse(where: "body" | "query", value: unknown, errors: Iterable<ValueError>): void {
  const issues = issuesOf(withoutMiscounted(errors), value, where);
  const [first] = issues;
  if (first === undefined) return;
  throw new AppError("validation_failed", `${first.loc.join(".")}: ${first.msg}`, { issues });
}

function* withoutMiscounted(errors: Iterable<ValueError>): Generator<ValueError> {
  for (const error of errors) {
    const { type, schema, value } = error;
    const isMiscounted =
      type === ValueErrorType.StringMaxLength && typeof value === "string" && hasAtMost(value, schema["maxLength"]);
    if (!isMiscounted) yield error;
  }
}

/** Whether a text has at most `max` characters (code points, as JSON Schema counts them). */
function hasAtMost(text: string, max: number): boolean {
  if (text.length > 2 * max) return false;
  let characters = 0;
  for (let i = 0; i < text.length && characters <= max; characters++) i += (text.codePointAt(i) ?? 0) > 0xffff ? 2 : 1;
  return characters <= max;
}
