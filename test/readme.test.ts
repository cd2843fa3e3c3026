import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { settingsTable } from "../src/config.ts";
import { startServer, type Server } from "./e2e/server.ts";

const ROOT = join(import.meta.dir, "..");
const readme = await Bun.file(join(ROOT, "README.md")).text();

/** The shell commands below a heading, block by block. */
function blocks(heading: string): string[] {
  const section = readme.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
  return [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, text = ""]) => text.trim());
}

let server: Server;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.stop());

describe("the README", () => {
  test("lists every setting as it is", () => {
    const listed = (/^\| variable \| default \|.*?\n\n/ms.exec(readme)?.[0] ?? "").trim().split("\n");
    expect(listed).toEqual(settingsTable().trim().split("\n"));
  });

  test("has two commands of one line each, and .ci/run does what the second says", async () => {
    const [first = "", second = "", ...more] = blocks("Two commands");
    expect(more).toEqual([]);
    expect(`${first}\n${second}`.split("\n")).toHaveLength(2);
    const ci = await Bun.file(join(ROOT, ".ci/run")).text();
    for (const part of second.split(" && ")) expect(ci).toContain(` ${part} `);
  });

  test("opens a session that works as it is typed", async () => {
    const [serve = "", ...lines] = (blocks("A first session")[0] ?? "").split("\n");
    expect(serve).toBe("./dist/sandbox serve &");
    const script = lines.join("\n").replaceAll("localhost:8000", new URL(server.url).host);
    const shell = Bun.spawn(["bash", "-euc", script], { stdout: "pipe", stderr: "pipe" });
    const said = await new Response(shell.stdout).text();
    expect(await shell.exited).toBe(0);
    expect([...said.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))).toEqual(
      Array.from({ length: said.split("\nevent: ").length - 1 }, (_, index) => index + 1),
    );
    expect(said).toContain("event: end\n");
    expect(said).toEndWith("done");
  });

  test("leads to files that are there, as the other documents do", async () => {
    const below = ["src", "deploy"].flatMap((folder) => [...new Bun.Glob(`${folder}/**/*.md`).scanSync(ROOT)]);
    expect(below).toContain("deploy/security.md");
    for (const document of ["README.md", ...below]) {
      const text = await Bun.file(join(ROOT, document)).text();
      for (const [, path = ""] of text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g))
        expect({ document, path, exists: existsSync(join(ROOT, dirname(document), path)) }).toEqual({
          document,
          path,
          exists: true,
        });
    }
  });
});
