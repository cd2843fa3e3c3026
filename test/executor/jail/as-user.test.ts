import { expect, test } from "bun:test";
import { chownSync, mkdtempSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { IS_ROOT } from "./fixture.ts";

const REPOSITORY = join(import.meta.dir, "../../..");
const USER = 54_321;
const SUITES = [
  "jail/isolation.test.ts",
  "jail/limits.test.ts",
  "jail/disk.test.ts",
  "jail/lifecycle.test.ts",
  "files.test.ts",
  "files-race.test.ts",
  "artifacts.test.ts",
  "tree.test.ts",
  "images.test.ts",
];

/** Whether another user can read this checkout and the tools: not below a closed home directory. */
function isReachable(): boolean {
  const probe = ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups", process.execPath, "--version"];
  return (
    IS_ROOT &&
    Bun.spawnSync(probe, { cwd: "/" }).success &&
    Bun.spawnSync([...probe.slice(0, 4), "ls", REPOSITORY]).success
  );
}

test.skipIf(!isReachable())(
  "all of it holds when the service is started by an ordinary user",
  async () => {
    const home = mkdtempSync("/tmp/sandbox-home-");
    chownSync(home, USER, USER);
    try {
      const suites = SUITES.map((name) => join(dirname(import.meta.dir), name));
      const run = Bun.spawn(
        [
          "setpriv",
          `--reuid=${USER}`,
          `--regid=${USER}`,
          "--clear-groups",
          process.execPath,
          "test",
          "--timeout",
          "60000",
          "--retry",
          "2",
          ...suites,
        ],
        { cwd: REPOSITORY, env: { PATH: process.env["PATH"] ?? "", HOME: home }, stdout: "ignore", stderr: "pipe" },
      );
      const said = await new Response(run.stderr).text();
      expect(said.split("\n").filter((line) => line.startsWith("(fail)"))).toEqual([]);
      expect(await run.exited).toBe(0);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  },
  180_000,
);
