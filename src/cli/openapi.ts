import { loadConfig } from "../config.ts";
import { endpointsOf } from "../http/server.ts";
import { openApiDocument } from "../http/openapi.ts";
import { createLog } from "../log.ts";
import { VERSION } from "../version.ts";
import { UsageError } from "./usage-error.ts";

const HELP = `sandbox openapi: prints the OpenAPI 3.1 document of the API, as /openapi.json has it

Usage: sandbox openapi
`;

/** `sandbox openapi`. Throws UsageError. */
export function openapiCommand(argv: string[]): Promise<number> {
  if (argv.includes("--help")) {
    process.stdout.write(HELP);
    return Promise.resolve(0);
  }
  if (argv.length > 0) throw new UsageError(`sandbox openapi takes no arguments; see sandbox openapi --help`);
  const endpoints = endpointsOf({
    sessions: absent(),
    executions: absent(),
    workspaces: absent(),
    templates: absent(),
    keys: absent(),
    metrics: absent(),
    vitals: { version: VERSION, uptimeS: absent(), unready: absent(), checks: absent(), sync: absent() },
    config: loadConfig({}),
    log: createLog({ level: "error", format: "text" }),
  });
  process.stdout.write(`${JSON.stringify(openApiDocument(endpoints, VERSION), null, 2)}\n`);
  return Promise.resolve(0);
}

/** A part of the service that routes are described without: any use of it is a mistake. */
function absent(): never {
  const refuse = (_target: object, name: string | symbol): never => {
    throw new TypeError(`the document needs ${String(name)} of a part that is not there`);
  };
  return new Proxy({}, { get: refuse }) as never;
}
