import type { TSchema } from "@sinclair/typebox";

/** What stands in an example for a text that nothing says more of. */
export const FILLER = "…";

/**
 * A value that satisfies the schema, for documents: its own first example, else its default, else one of its parts. What
 * may be null is null, unless it has an example.
 */
export function exampleOf(schema: TSchema): unknown {
  const own = [schema["examples"]?.[0], schema["default"], schema["const"]].find((value) => value !== undefined);
  if (own !== undefined) return own;
  const members = schema["anyOf"] as TSchema[] | undefined;
  if (members !== undefined)
    return members.some(({ type }) => type === "null") ? null : exampleOf(members[0] as TSchema);
  switch (schema["type"]) {
    case "object":
      return Object.fromEntries(
        Object.entries((schema["properties"] ?? {}) as Record<string, TSchema>).map(([n, s]) => [n, exampleOf(s)]),
      );
    case "array":
      return schema["items"] === undefined ? [] : [exampleOf(schema["items"] as TSchema)];
    case "string":
      return FILLER;
    case "integer":
    case "number":
      return schema["minimum"] ?? 1;
    case "boolean":
      return false;
    default:
      return null;
  }
}
