import { afterAll, beforeAll, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { EXECUTABLE, newDataDir, serviceEnv } from "./server.ts";

let dir: string;
beforeAll(async () => {
  dir = await newDataDir();
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test("doctor names the package that a machine without bubblewrap lacks", async () => {
  const env = { ...serviceEnv(`${dir}/data`), PATH: dir };
  const child = Bun.spawn([EXECUTABLE, "doctor"], { env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [said, code] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  expect(code).toBe(1);
  expect(said).toContain("apt-get install bubblewrap");
}, 20_000);
