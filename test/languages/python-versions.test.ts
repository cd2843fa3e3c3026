import { afterAll, beforeAll, describe, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { Direct } from "./direct.ts";
import { expectOutcome } from "./expectation.ts";
import { PYTHON } from "./programs/table.ts";

/** Interpreters of the supported versions that pyenv has on this machine. */
function interpreters(): [version: string, path: string][] {
  const home = join(homedir(), ".pyenv/versions");
  if (!existsSync(home)) return [];
  const supported = readdirSync(home).filter((version) => /^3\.(9|1[0-3])\./.test(version));
  return supported.map((version) => [version, join(home, version, "bin/python3")]);
}

describe.each(interpreters())("Python %s", (_, path) => {
  let direct: Direct;
  beforeAll(async () => {
    direct = new Direct(path);
    await direct.startZygote();
  });
  afterAll(() => direct.stop());

  test.each(PYTHON.map((program) => [program.name, program] as const))("%s", async (_name, program) => {
    expectOutcome(program, await direct.run(program));
  });
});
