import { describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ERROR_STATUS } from "../../src/errors.ts";
import { FILLER } from "../../src/http/example.ts";
import type { OpenApiDocument, Operation } from "../../src/http/openapi.ts";
import { GOLDEN, RENEW, runTool, toolsMissing } from "./tools.ts";

const ROOT = join(import.meta.dir, "../..");
const golden = await Bun.file(GOLDEN).text();
const document = JSON.parse(golden) as OpenApiDocument;
const operations: [string, Operation][] = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]): [string, Operation] => [`${method} ${path}`, operation]),
);

test("the golden is what the command prints", async () => {
  const child = Bun.spawn([process.execPath, "src/main.ts", "openapi"], {
    cwd: ROOT,
    stdout: "pipe",
    stderr: "inherit",
  });
  const printed = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  if (printed !== golden) throw new Error(`the document has changed; look at it and renew the golden: ${RENEW}`);
});

describe("the golden has an example", () => {
  test("of every name in a path, every body and every answer with content", () => {
    const without = operations.flatMap(([name, { parameters, requestBody, responses }]) => [
      ...(parameters ?? [])
        .filter((one) => one.in === "path" && one.example === undefined)
        .map((one) => `${name} ${one.name}`),
      ...missing(`${name} body`, requestBody?.content),
      ...Object.entries(responses).flatMap(([status, { content }]) => missing(`${name} ${status}`, content)),
    ]);
    expect(without).toEqual([]);
  });

  test("of every error code, where a route answers it", () => {
    const { examples } = document["components"] as { examples: Record<string, { value: { code: string } }> };
    expect(Object.values(examples).map(({ value }) => value.code)).toEqual(Object.keys(ERROR_STATUS));
    const referred = new Set([...golden.matchAll(/"#\/components\/examples\/(\w+)"/g)].map(([, code = ""]) => code));
    const nowhere = Object.keys(ERROR_STATUS).filter((code) => !referred.has(code));
    expect(nowhere).toEqual(["not_found", "method_not_allowed"]);
    for (const code of nowhere) expect(document.info.description).toContain(code);
  });

  test("of every event type", () => {
    const { schemas } = document["components"] as { schemas: Record<string, { examples?: { type: string }[] }> };
    const types = new Set(schemas["Event"]?.examples?.map(({ type }) => type));
    expect([...types]).toEqual(["status", "stdout", "stderr", "result", "end"]);
  });

  test("that says something: a text without `examples` stands in these lines", () => {
    const fillers = golden.split("\n").flatMap((line, at) => (line.includes(`: "${FILLER}"`) ? [at + 1] : []));
    expect(fillers).toEqual([]);
  });
});

function missing(place: string, content: NonNullable<Operation["requestBody"]>["content"] = {}): string[] {
  return Object.entries(content)
    .filter(([, { example, examples }]) => example === undefined && examples === undefined)
    .map(([type]) => `${place} ${type}`);
}

describe.skipIf(toolsMissing !== null)(
  `judged by openapi-spec-validator and jsonschema${toolsMissing === null ? "" : ` (${toolsMissing})`}`,
  () => {
    const judge = (file: string) => runTool("python", [join(import.meta.dir, "check.py"), file]);

    test("the golden is valid and its examples are what their schemas say", async () => {
      const { code, stdout, stderr } = await judge(GOLDEN);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(Number(stdout)).toBeGreaterThan(500);
    });

    test("one with a wrong example or field is not", async () => {
      const directory = await mkdtemp(join(tmpdir(), "sandbox-openapi-"));
      const file = join(directory, "openapi.json");
      await Bun.write(
        file,
        golden.replaceAll('"exit_code": 0', '"exit_code": "0"').replace('"paths": {', '"path": {}, "paths": {'),
      );
      const { code, stderr } = await judge(file);
      await rm(directory, { recursive: true });
      expect(code).toBe(1);
      expect(stderr).toContain("'path' was unexpected");
      expect(stderr).toContain("$.exit_code: '0' is not of type 'integer', 'null'");
    });
  },
);
