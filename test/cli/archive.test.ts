import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readArchive, writeArchive } from "../../src/cli/archive.ts";
import { removeTree } from "../../src/executor/jail/remove-tree.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync("/tmp/sandbox-archive-");
});
afterEach(() => removeTree(dir));

/** A file in so many directories inside each other, which a program makes by entering each. */
async function deepFile(top: string, depth: number): Promise<void> {
  const name = "é".repeat(50);
  const script = `for i in $(seq ${depth}); do mkdir ${name} && cd ${name} || exit 1; done; echo deep > f`;
  mkdirSync(top, { recursive: true });
  expect(await Bun.spawn(["bash", "-c", script], { cwd: top }).exited).toBe(0);
}

/** What is made into an archive here, and comes out of it there. */
async function restored(): Promise<string> {
  const into = join(dir, "restored");
  rmSync(into, { recursive: true, force: true });
  mkdirSync(into);
  await readArchive(join(dir, "backup.tar"), into);
  return into;
}

test("a workspace whose paths are longer than the kernel takes spoils no backup", async () => {
  await deepFile(join(dir, "data/workspaces/hostile"), 100);
  await deepFile(join(dir, "data/workspaces/deep"), 30);
  mkdirSync(join(dir, "data/workspaces/victim"));
  writeFileSync(join(dir, "data/workspaces/victim/f"), "kept");
  expect(await writeArchive(join(dir, "backup.tar"), [{ from: join(dir, "data"), names: ["workspaces"] }])).toBe(true);
  expect(statSync(join(dir, "backup.tar")).mode & 0o777).toBe(0o600);
  const into = await restored();
  expect(readFileSync(join(into, "workspaces/victim/f"), "utf8")).toBe("kept");
  expect(readFileSync(join(into, "workspaces/deep", `${"é".repeat(50)}/`.repeat(30), "f"), "utf8")).toBe("deep\n");
});

test("nor does one in a backup that has them all the same", async () => {
  await deepFile(join(dir, "data/workspaces/hostile"), 100);
  writeFileSync(join(dir, "data/workspaces/f"), "kept");
  const tar = Bun.spawn(["tar", "-cf", join(dir, "backup.tar"), "-C", join(dir, "data"), "workspaces"]);
  expect(await tar.exited).toBe(0);
  expect(readFileSync(join(await restored(), "workspaces/f"), "utf8")).toBe("kept");
});

test("a backup that is cut is refused", async () => {
  mkdirSync(join(dir, "data"));
  writeFileSync(join(dir, "data/f"), "x".repeat(100_000));
  await writeArchive(join(dir, "backup.tar"), [{ from: dir, names: ["data"] }]);
  writeFileSync(join(dir, "backup.tar"), readFileSync(join(dir, "backup.tar")).subarray(0, 50_000));
  expect(await restored().catch((error: unknown) => String(error))).toContain("backup.tar");
});
