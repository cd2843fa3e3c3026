import { describe, expect, test } from "bun:test";
import { EXECUTABLE } from "../e2e/server.ts";
import { command } from "./command.ts";

type Check = { name: string; verdict: "ok" | "weaker" | "missing"; found: string; remedy?: string };
type Report = { ok: boolean; version: string; checks: Check[]; proof: null };

async function report(env: Record<string, string> = {}): Promise<{ code: number; report: Report }> {
  const { code, stdout } = await command(["doctor", "--json"], { env: { DATA_DIR: "/tmp/sandbox-none", ...env } });
  return { code, report: JSON.parse(stdout) as Report };
}

const named = ({ checks }: Report, name: string): Check | undefined => checks.find((check) => check.name === name);

describe("doctor", () => {
  test("finds everything that is required where the tests can run", async () => {
    const { code, report: said } = await report();
    expect(said.checks.filter(({ verdict }) => verdict === "missing")).toEqual([]);
    expect({ code, ok: said.ok, proof: said.proof }).toEqual({ code: 0, ok: true, proof: null });
    const names = said.checks.map(({ name }) => name);
    for (const name of ["kernel", "bubblewrap", "user namespaces", "seccomp", "Python", "data directory", "disk"])
      expect(names).toContain(name);
    for (const { verdict, remedy } of said.checks) expect(remedy !== undefined).toBe(verdict !== "ok");
  });

  test("prints a line for each, and the verdict first", async () => {
    const { code, stdout } = await command(["doctor", "--data-dir", "/tmp/sandbox-none"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ok {6}kernel {13}\d/m);
    expect(stdout).toMatch(/^ok {6}data directory {5}\/tmp\/sandbox-none can be made in \/tmp$/m);
  });

  test("names the packages when bubblewrap and Python are not installed", async () => {
    const bare = "bwrap --dev-bind / / --tmpfs /usr/bin --tmpfs /usr/local/bin --".split(" ");
    const child = Bun.spawn([...bare, EXECUTABLE, "doctor", "--json"], {
      env: { PATH: "/usr/bin", DATA_DIR: "/tmp/sandbox-none" },
      stdout: "pipe",
    });
    const said = JSON.parse(await new Response(child.stdout).text()) as Report;
    expect(await child.exited).toBe(1);
    expect(named(said, "bubblewrap")).toMatchObject({ verdict: "missing", remedy: "apt-get install bubblewrap" });
    expect(named(said, "Python")).toMatchObject({ verdict: "missing", remedy: "apt-get install python3" });
    expect(said.ok).toBe(false);
  });

  test("tries to write where the data directory would be", async () => {
    const { code, report: said } = await report({ DATA_DIR: "/proc/none" });
    expect(named(said, "data directory")).toMatchObject({
      verdict: "missing",
      remedy: expect.stringContaining("DATA_DIR"),
    });
    expect(code).toBe(1);
  });
});
