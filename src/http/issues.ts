import type { TSchema } from "@sinclair/typebox";
import { type ValueError, ValueErrorType } from "@sinclair/typebox/errors";
import type { ValidationIssue } from "../errors.ts";

const MAX_ISSUES = 32;
const MAX_NAME = 100;

/** What is wrong with `value`, one issue a place, without the value itself. `loc` starts with `where`. */
export function issuesOf(errors: Iterable<ValueError>, value: unknown, where: "body" | "query"): ValidationIssue[] {
  const issues: ValidationIssue[] = [];
  const seen = new Set<string>();
  for (const error of errors) {
    if (seen.has(error.path)) continue;
    seen.add(error.path);
    const { type, msg } = explain(error, where);
    issues.push({ type, loc: [where, ...locate(error.path, value)], msg });
    if (issues.length === MAX_ISSUES) break;
  }
  return issues;
}

/** The steps of a JSON pointer; a step into a list is a number. */
function locate(pointer: string, root: unknown): (string | number)[] {
  let value = root;
  return pointer
    .split("/")
    .slice(1)
    .map((step) => {
      const name = step.replaceAll("~1", "/").replaceAll("~0", "~");
      const inList = Array.isArray(value);
      value = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
      return inList ? Number(name) : name.slice(0, MAX_NAME);
    });
}

function explain({ type, schema, value }: ValueError, where: "body" | "query"): { type: string; msg: string } {
  const parsed = where === "query" && typeof value === "string";
  switch (type) {
    case ValueErrorType.ObjectRequiredProperty:
      return MISSING;
    case ValueErrorType.Object:
      return value === undefined ? MISSING : { type: "dict_type", msg: "Input should be an object" };
    case ValueErrorType.Array:
      return { type: "list_type", msg: "Input should be a list" };
    case ValueErrorType.String:
      return { type: "string_type", msg: "Input should be a string" };
    case ValueErrorType.Boolean:
      return { type: parsed ? "bool_parsing" : "bool_type", msg: "Input should be true or false" };
    case ValueErrorType.Integer:
      return { type: parsed ? "int_parsing" : "int_type", msg: "Input should be a whole number" };
    case ValueErrorType.Number:
      return { type: parsed ? "float_parsing" : "float_type", msg: "Input should be a number" };
    case ValueErrorType.IntegerMinimum:
    case ValueErrorType.NumberMinimum:
      return { type: "greater_than_equal", msg: `Input should be greater than or equal to ${schema["minimum"]}` };
    case ValueErrorType.IntegerMaximum:
    case ValueErrorType.NumberMaximum:
      return { type: "less_than_equal", msg: `Input should be less than or equal to ${schema["maximum"]}` };
    case ValueErrorType.StringMinLength:
      return {
        type: "string_too_short",
        msg: `String should have at least ${count(schema["minLength"], "character")}`,
      };
    case ValueErrorType.StringMaxLength:
      return { type: "string_too_long", msg: `String should have at most ${count(schema["maxLength"], "character")}` };
    case ValueErrorType.StringPattern:
      return { type: "string_pattern_mismatch", msg: `String should match ${schema["pattern"]}` };
    case ValueErrorType.ArrayMinItems:
      return { type: "too_short", msg: `List should have at least ${count(schema["minItems"], "item")}` };
    case ValueErrorType.ArrayMaxItems:
      return { type: "too_long", msg: `List should have at most ${count(schema["maxItems"], "item")}` };
    case ValueErrorType.ObjectAdditionalProperties:
      return {
        type: "invalid_key",
        msg: `Name should match ${Object.keys(schema["patternProperties"] ?? {}).join(" or ")}`,
      };
    case ValueErrorType.Union:
      return explainUnion(schema);
    default:
      return { type: "value_error", msg: "Input is not what is expected here" };
  }
}

const MISSING = { type: "missing", msg: "Field required" };

function explainUnion(schema: TSchema): { type: string; msg: string } {
  const members = schema["anyOf"] as TSchema[];
  const literals = members.every((member) => "const" in member);
  const names = members.map((member) => (literals ? `'${member["const"]}'` : `a ${member["type"]}`));
  const listed = names.length === 1 ? names[0] : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
  return { type: literals ? "enum" : "type_error", msg: `Input should be ${listed}` };
}

function count(n: unknown, noun: string): string {
  return n === 1 ? `1 ${noun}` : `${String(n)} ${noun}s`;
}
