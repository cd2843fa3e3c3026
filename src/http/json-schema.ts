import type { TSchema } from "@sinclair/typebox";

export type JsonSchema = Record<string, unknown>;

/** Writes schemas as OpenAPI has them: those with `$id` once, as components, and a reference wherever they stand. */
export class SchemaWriter {
  readonly components: Record<string, JsonSchema> = {};

  /** `isInput`: of a request's body, where null for an optional field is as if it were absent. */
  write(schema: TSchema, isInput = false): JsonSchema {
    const { $id } = schema;
    if ($id === undefined) return this.#body(schema, isInput);
    if (!($id in this.components)) {
      this.components[$id] = {};
      this.components[$id] = this.#body(schema, isInput);
    }
    return { $ref: `#/components/schemas/${$id}` };
  }

  #body(schema: TSchema, isInput: boolean): JsonSchema {
    const written: JsonSchema = {};
    const required = (schema["required"] ?? []) as string[];
    for (const [key, value] of Object.entries(schema)) {
      if (key === "$id") continue;
      if (key === "properties" || key === "patternProperties")
        written[key] = Object.fromEntries(
          Object.entries(value as Record<string, TSchema>).map(([name, property]) => {
            const one = this.write(property, isInput);
            return [name, isInput && key === "properties" && !required.includes(name) ? orNull(one) : one];
          }),
        );
      else if (
        key === "items" ||
        key === "contentSchema" ||
        (key === "additionalProperties" && typeof value === "object")
      )
        written[key] = this.write(value, isInput);
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

function orNull(schema: JsonSchema): JsonSchema {
  if (typeof schema["type"] === "string" && schema["enum"] === undefined)
    return { ...schema, type: [schema["type"], "null"] };
  return { anyOf: [schema, { type: "null" }] };
}
