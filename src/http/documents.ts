import { Type } from "@sinclair/typebox";
import { docsPage } from "./docs.ts";
import { endpoint, type Endpoint } from "./endpoint.ts";
import { openApiDocument } from "./openapi.ts";
import { jsonAnswer } from "./schemas.ts";

/** The routes that show the document of `endpoints` and of themselves. */
export function documentEndpoints(endpoints: readonly Endpoint[], version: string): Endpoint[] {
  let made: { json: string; page: string } | null = null;
  const all = [...endpoints];
  const make = (): { json: string; page: string } => {
    const document = openApiDocument(all, version);
    return (made ??= { json: JSON.stringify(document), page: docsPage(document) });
  };
  const own = [
    endpoint({
      method: "GET",
      path: "/openapi.json",
      access: "public",
      tag: "operation",
      summary: "This document",
      answers: { 200: jsonAnswer("OpenAPI 3.1.", Type.Object({ openapi: Type.Literal("3.1.0") })) },
      errors: [],
      handle: () => ({ status: 200, text: make().json, headers: { "Content-Type": "application/json" } }),
    }),
    endpoint({
      method: "GET",
      path: "/docs",
      access: "public",
      tag: "operation",
      summary: "This document as a page",
      answers: {
        200: {
          description: "A page.",
          content: { "text/html": { schema: Type.String({ examples: ["<!doctype html>"] }) } },
        },
      },
      errors: [],
      handle: () => ({
        status: 200,
        text: make().page,
        headers: {
          "Content-Type": "text/html; charset=utf-8",
          "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
          "X-Content-Type-Options": "nosniff",
        },
      }),
    }),
  ];
  all.push(...own);
  return own;
}
