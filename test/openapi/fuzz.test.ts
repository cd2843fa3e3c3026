import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OpenApiDocument } from "../../src/http/openapi.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { GOLDEN, runTool, toolsMissing } from "./tools.ts";

const KEY = "key-of-the-fuzzer";
const SEED = 1;
const CHECKS = [
  "no_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_schema_conformance",
  "response_headers_conformance",
  "negative_data_rejection",
  "unsupported_method",
  "events_are_what_the_document_says",
];
/** Answered with an error alone: its index never answers, so that nothing is installed from the Internet. */
const NEVER_WELL = ["POST /api/v1/sessions/{session_id}/dependencies/install"];

describe.skipIf(toolsMissing !== null)(
  `schemathesis against the compiled server${toolsMissing === null ? "" : ` (${toolsMissing})`}`,
  () => {
    let server: Server;
    let directory: string;
    beforeAll(async () => {
      server = await startServer({ env: { API_KEYS: `default:${KEY}` } });
      directory = await mkdtemp(join(tmpdir(), "sandbox-fuzz-"));
    });
    afterAll(async () => {
      await server.stop();
      await rm(directory, { recursive: true });
    });

    const fuzz = (document: string, more: string[]) =>
      runTool(
        "schemathesis",
        [
          ...["run", document, "--url", server.url, "-H", `X-API-Key: ${KEY}`, "--seed", String(SEED), "--no-color"],
          ...["--checks", CHECKS.join(","), "--request-timeout", "30", "--generation-database", "none"],
          ...["--warnings", "off", "--output-truncate", "false", ...more],
        ],
        {
          SANDBOX_URL: server.url,
          SANDBOX_KEY: KEY,
          SCHEMATHESIS_HOOKS: "hooks",
          PYTHONPATH: import.meta.dir,
          PYTHONDONTWRITEBYTECODE: "1",
        },
        directory,
      );

    test(
      "no 5xx and nothing that the document does not say",
      async () => {
        const { code, stdout, stderr } = await fuzz(GOLDEN, ["--max-examples", "40", "--continue-on-failure"]);
        if (code !== 0)
          throw new Error(`schemathesis found something:\n${stdout.slice(-20_000)}${stderr.slice(-2000)}`);
        expect(Number(/(\d+) generated/.exec(stdout)?.[1])).toBeGreaterThan(2500);
        expect(unreached(await Bun.file(GOLDEN).json(), server.log)).toEqual(NEVER_WELL);
      },
      { timeout: 240_000, retry: 0 },
    );

    test("a document that leaves something out is found out", async () => {
      const document = (await Bun.file(GOLDEN).json()) as OpenApiDocument;
      delete document.paths["/api/v1/sessions/{session_id}"]?.["get"]?.responses["404"];
      const file = join(directory, "openapi.json");
      await Bun.write(file, JSON.stringify(document));
      const { code, stdout } = await fuzz(file, [
        "--include-operation-id",
        "get_sessions_session_id",
        "--phases",
        "fuzzing",
      ]);
      expect(code).toBe(1);
      expect(stdout).toContain("Received: 404");
    });
  },
);

/** Operations of the document that the server never answered with success. */
function unreached(document: OpenApiDocument, log: readonly string[]): string[] {
  const served = log
    .filter((line) => line.includes('"event":"http.request"'))
    .map((line) => JSON.parse(line) as { method: string; path: string; status: number })
    .filter(({ status }) => status < 300);
  return Object.entries(document.paths).flatMap(([path, methods]) => {
    const text = path
      .replaceAll(".", "\\.")
      .replace("{path}", ".+")
      .replaceAll(/\{\w+\}/g, "[^/]+");
    const pattern = new RegExp(`^${text}$`);
    return Object.keys(methods)
      .map((method) => method.toUpperCase())
      .filter((method) => !served.some((one) => one.method === method && pattern.test(one.path)))
      .map((method) => `${method} ${path}`);
  });
}
