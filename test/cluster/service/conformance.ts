import { afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Json } from "../../e2e/client.ts";
import type { Deployed } from "./deployed.ts";

const ROOT = join(import.meta.dir, "../../..");
const SUITES = [...new Bun.Glob("*.test.ts").scanSync(join(ROOT, "test/conformance"))].toSorted();

/** The suite of the edge, unchanged, against the Service. `isOurs`: every session that the key sees is the tests'. */
export function describeConformance(deployed: () => Deployed, isOurs: boolean): void {
  describe("the conformance suite holds", () => {
    // What one file leaves behind would take the room of the next on a small node.
    afterEach(async () => {
      if (!isOurs) return;
      const client = deployed().client();
      const { items } = (await client.get("/sessions?limit=200")).body as { items: Json[] };
      for (const { id } of items) await client.call("DELETE", `/sessions/${String(id)}`);
    }, 60_000);

    test.each(SUITES)(
      "%s",
      async (name) => {
        const child = Bun.spawn(["bun", "test", "--timeout", "120000", `test/conformance/${name}`], {
          cwd: ROOT,
          env: { ...process.env, SANDBOX_URL: deployed().url, SANDBOX_API_KEY: deployed().key },
          stdout: "ignore",
          stderr: "pipe",
        });
        const said = await new Response(child.stderr).text();
        const failures = said.split("\n").filter((line) => line.startsWith("(fail)"));
        expect([failures, failures.length === 0 ? "" : said]).toEqual([[], ""]);
        expect(await child.exited).toBe(0);
      },
      300_000,
    );
  });
}
