import type { JsonSchema } from "./json-schema.ts";
import type { OpenApiDocument, Operation } from "./openapi.ts";

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --get: #2a7de1; --post: #1a9c5b; --put: #b7791f; --delete: #d13438; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; text-transform: capitalize; }
code, pre { font-family: ui-monospace, monospace; font-size: 13px; }
pre { background: var(--soft); padding: .75rem; border-radius: 6px; overflow-x: auto; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
summary { cursor: pointer; padding: .5rem .75rem; display: flex; gap: .75rem; align-items: baseline; flex-wrap: wrap; }
details > div { padding: 0 .75rem .5rem; border-top: 1px solid var(--line); }
.method { font: 600 12px ui-monospace, monospace; color: #fff; background: #667; border-radius: 4px; padding: .1rem .4rem; min-width: 3.2rem; text-align: center; }
.get { background: var(--get); } .post { background: var(--post); } .put, .patch { background: var(--put); } .delete { background: var(--delete); }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: left; vertical-align: top; }
`;

/** The document as one page of HTML that needs nothing else: no script, no other host. */
export function docsPage(document: OpenApiDocument): string {
  const sections = new Map<string, string[]>();
  for (const [path, operations] of Object.entries(document.paths))
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags[0] ?? "";
      sections.set(tag, [...(sections.get(tag) ?? []), operationBlock(method, path, operation)]);
    }
  const components = document["components"] as {
    schemas: Record<string, JsonSchema>;
    examples: Record<string, { summary: string; value: unknown }>;
  };
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) =>
      `<details id="${escape(name)}"><summary><code>${escape(name)}</code></summary><div>${code(schema)}</div></details>`,
  );
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escape(
    document.info.title,
  )}</title><style>${STYLE}</style></head><body><h1>${escape(document.info.title)}</h1><p>${escape(
    document.info.description,
  )}</p><p>Version ${escape(document.info.version)} · <a href="/openapi.json">openapi.json</a></p>${[...sections]
    .map(([tag, blocks]) => `<h2>${escape(tag)}</h2>${blocks.join("")}`)
    .join(
      "",
    )}<h2>Errors</h2>${Object.entries(components.examples).map(errorBlock).join("")}<h2>Schemas</h2>${schemas.join(
    "",
  )}</body></html>`;
}

function operationBlock(method: string, path: string, operation: Operation): string {
  const about = operation.description === undefined ? "" : `<p>${escape(operation.description)}</p>`;
  const parameters = (operation.parameters ?? []).map(
    ({ name, in: where, description, schema }) =>
      `<tr><td><code>${escape(name)}</code></td><td>${where}</td><td>${escape(description ?? "")}</td><td><code>${escape(JSON.stringify(schema))}</code></td></tr>`,
  );
  const bodies = Object.entries(operation.requestBody?.content ?? {}).map(
    ([type, { schema, example }]) => `<h4>Body: ${escape(type)}</h4>${code(schema)}${exampleBlock(example)}`,
  );
  const answers = Object.entries(operation.responses).map(([status, { description, content }]) => {
    const shown = Object.entries(content ?? {}).map(
      ([type, { schema, example }]) => `${escape(type)} ${reference(schema)}${exampleBlock(example)}`,
    );
    return `<tr><td>${status}</td><td>${escape(description)}</td><td>${shown.join("<br>")}</td></tr>`;
  });
  return `<details><summary><span class="method ${method}">${method.toUpperCase()}</span><code>${escape(path)}</code><span>${escape(
    operation.summary,
  )}</span></summary><div>${about}${parameters.length === 0 ? "" : `<h4>Parameters</h4><table>${parameters.join("")}</table>`}${bodies.join(
    "",
  )}<h4>Answers</h4><table>${answers.join("")}</table></div></details>`;
}

/** An example as it is sent; folded, since an answer may be long. */
function exampleBlock(example: unknown): string {
  if (example === undefined) return "";
  const text = typeof example === "string" ? example : JSON.stringify(example, null, 2);
  return `<details><summary>Example</summary><pre>${escape(text)}</pre></details>`;
}

/** Every error code with what an answer of it may look like. */
function errorBlock([code, { summary, value }]: [string, { summary: string; value: unknown }]): string {
  return `<details id="error-${escape(code)}"><summary><code>${escape(summary)}</code></summary><div><pre>${escape(
    JSON.stringify(value, null, 2),
  )}</pre></div></details>`;
}

function reference(schema: JsonSchema): string {
  const name = typeof schema["$ref"] === "string" ? schema["$ref"].split("/").at(-1) : undefined;
  return name === undefined ? "" : `<a href="#${escape(name)}">${escape(name)}</a>`;
}

function code(schema: JsonSchema): string {
  return typeof schema["$ref"] === "string"
    ? reference(schema)
    : `<pre>${escape(JSON.stringify(schema, null, 2))}</pre>`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
