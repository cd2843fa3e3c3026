import { Type } from "@sinclair/typebox";
import type { Keys, KeyView } from "../keys/keys.ts";
import { endpoint, type Endpoint } from "./endpoint.ts";
import { BODY_ERRORS, Instant, INSTANT, jsonAnswer, oneOf, orNull } from "./schemas.ts";

const Name = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples: ["ci"] });

const shown = {
  name: Type.String({ examples: ["ci"] }),
  tenant: Type.String({ examples: ["ci"] }),
  hint: Type.String({ description: "The first characters of the key.", examples: ["sbx_4f9a"] }),
  source: oneOf(["stored", "configured"]),
  created_at: orNull(Instant, INSTANT),
  last_used_at: orNull(Instant),
  revoked_at: orNull(Instant),
};

const KeyShown = Type.Object(shown, { $id: "Key" });
const KeyMade = Type.Object(
  { ...shown, key: Type.String({ description: "Shown this once.", examples: ["sbx_…"] }) },
  { $id: "KeyMade" },
);

/** Routes of API keys. The operator's tenant manages every tenant's, another one its own. */
export function keyEndpoints(keys: Keys): Endpoint[] {
  const tag = "keys";
  return [
    endpoint({
      method: "POST",
      path: "/api/v1/keys",
      tag,
      summary: "Make a key",
      body: Type.Object(
        {
          name: Name,
          tenant: Type.Optional(Type.String({ ...Name, description: "Whose key it is; without it, the name." })),
        },
        { $id: "KeyInput" },
      ),
      answers: { 201: jsonAnswer("The key, which is never shown again.", KeyMade) },
      errors: [...BODY_ERRORS, "bad_request", "key_exists"],
      async handle({ tenant, body }) {
        const made = await keys.create(tenant, body);
        const headers = { "Cache-Control": "no-store", Location: `/api/v1/keys/${made.name}` };
        return { status: 201, json: { ...shapeKey(made), key: made.key }, headers };
      },
    }),
    endpoint({
      method: "GET",
      path: "/api/v1/keys",
      tag,
      summary: "List keys, by name, revoked ones too",
      answers: {
        200: jsonAnswer(
          "The keys.",
          Type.Object({ items: Type.Array(KeyShown), total: Type.Integer({ examples: [1] }) }),
        ),
      },
      errors: [],
      async handle({ tenant }) {
        const items = (await keys.list(tenant)).map(shapeKey);
        return { status: 200, json: { items, total: items.length } };
      },
    }),
    endpoint({
      method: "DELETE",
      path: "/api/v1/keys/:name",
      tag,
      summary: "Revoke a key at once",
      answers: { 204: { description: "It is revoked." } },
      errors: ["bad_request", "key_not_found"],
      async handle({ tenant, params }) {
        await keys.revoke(tenant, params.name);
        return { status: 204 };
      },
    }),
  ];
}

function shapeKey(key: KeyView) {
  return {
    name: key.name,
    tenant: key.tenant,
    hint: key.hint,
    source: key.source,
    created_at: key.created_at,
    last_used_at: key.last_used_at,
    revoked_at: key.revoked_at,
  };
}
