import type { TSchema } from "@sinclair/typebox";

export type JsonSchema = Record<string, unknown>;

/** Writes schemas as OpenAPI has them: those with `$id` once, as components, and a reference wherever they stand. */
export class SchemaWriter {
  readonly components: Record<string, JsonSchema> = {};

  write(schema: TSchema): JsonSchema {
    const { $id } = schema;
    if ($id === undefined) return this.#body(schema);
    if (!($id in this.components)) {
      this.components[$id] = {};
      this.components[$id] = this.#body(schema);
    }
    return { $ref: `#/components/schemas/${$id}` };
  }

  #body(schema: TSchema): JsonSchema {
    const written: JsonSchema = {};
    for (const [key, value] of Object.entries(schema)) {
      if (key === "$id") continue;
      if (key === "properties" || key === "patternProperties")
        written[key] = Object.fromEntries(
          Object.entries(value as Record<string, TSchema>).map(([n, s]) => [n, this.write(s)]),
        );
      else if (
        key === "items" ||
        key === "contentSchema" ||
        (key === "additionalProperties" && typeof value === "object")
      )
        written[key] = this.write(value);
      else if (key === "anyOf") Object.assign(written, this.#union(value as TSchema[]));
      else written[key] = value;
    }
    return written;
  }

  /** Words become an enum and a simple type or null a list of types, which documents show better than `anyOf`. */
  #union(members: TSchema[]): JsonSchema {
    if (members.every((member) => "const" in member))
      return { type: "string", enum: members.map((member) => member["const"]) };
    const [first, second] = members;
    const isNullable = members.length === 2 && second?.["type"] === "null" && first?.$id === undefined;
    if (!isNullable || typeof first?.["type"] !== "string")
      return { anyOf: members.map((member) => this.write(member)) };
    return { ...this.write(first), type: [first["type"], "null"] };
  }
}
