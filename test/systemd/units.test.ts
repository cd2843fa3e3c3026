import { describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "../e2e/client.ts";
import { endExecutor, EXECUTABLE, newDataDir, serviceEnv, startServer } from "../e2e/server.ts";

const UNITS = join(import.meta.dir, "../../deploy/systemd");
const NAMES = ["sandbox.service", "sandbox-executor.service"];
const analyze = Bun.which("systemd-analyze");

async function run(...argv: string[]): Promise<string> {
  const child = Bun.spawn(argv, { stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  await child.exited;
  return out + err;
}

// What they do under a systemd that runs: unit.sh.
describe.skipIf(analyze === null)(analyze === null ? "systemd-analyze is not installed" : "the units", () => {
  test("are understood whole, and expose little", async () => {
    const directory = await mkdtemp("/tmp/sandbox-units-");
    for (const name of NAMES) {
      const unit = await Bun.file(join(UNITS, name)).text();
      await Bun.write(join(directory, name), unit.replace("/usr/local/bin/sandbox", EXECUTABLE));
    }
    const paths = NAMES.map((name) => join(directory, name));
    expect(await run(analyze ?? "", "verify", "--man=no", ...paths)).toBe("");
    for (const [index, most] of [2, 4].entries()) {
      const said = await run(analyze ?? "", "security", "--offline=true", "--no-pager", paths[index] ?? "");
      expect(Number(/Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1])).toBeLessThan(most);
    }
    await rm(directory, { recursive: true });
  });
});

test("with EXECUTOR_EXTERNAL serve uses the executor that is there, starts none and ends none", async () => {
  const dataDir = await newDataDir();
  const env = { EXECUTOR_EXTERNAL: "true", EXECUTOR_LINGER: "true" };
  const server = await startServer({ dataDir, env });
  const client = new Client(server.url);
  const isReady = async (): Promise<boolean> => (await fetch(`${server.url}/readyz`)).ok;
  const refused = await client.post("/sessions?wait=1", { template_id: "python-basic" });
  expect(refused.body["status"]).not.toBe("running");
  expect(await isReady()).toBe(false);
  const start = () =>
    Bun.spawn([EXECUTABLE, "executor"], { env: serviceEnv(dataDir, env), stdin: "ignore", stdout: "pipe" });
  const executor = start();
  while (!(await isReady())) await Bun.sleep(50);
  const session = await client.session();
  expect(await client.run(session, "print(1)")).toMatchObject({ stdout: "1\n" });
  executor.kill("SIGKILL");
  await executor.exited;
  const another = start();
  expect(await client.run(session, "print(2)")).toMatchObject({ stdout: "2\n" });
  await server.stop().catch(() => {});
  await endExecutor(dataDir);
  expect(await another.exited).toBe(0);
  await rm(dataDir, { recursive: true });
}, 40_000);
