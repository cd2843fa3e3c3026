import { expect, test } from "bun:test";
import { openSync, closeSync } from "node:fs";
import { initBinary } from "./fixture.ts";

const IS_ROOT = process.getuid?.() === 0;
const REFUSED = 125;

async function launch(args: string[], extra: number[] = []): Promise<{ out: string; err: string; code: number }> {
  const child = Bun.spawn([await initBinary(), "launch", ...args], {
    stdio: ["ignore", "pipe", "pipe", ...extra],
    env: { PATH: "/usr/bin:/bin" },
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { out, err, code: await child.exited };
}

test("runs a program without inherited descriptors, in a session of its own, with limits", async () => {
  const inherited = openSync("/etc/passwd", "r");
  const code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], os.getsid(0) == os.getpid())";
  const files = await launch(["--", "/usr/bin/python3", "-I", "-c", code], [inherited]);
  closeSync(inherited);
  expect(files).toEqual({ out: "[0, 1, 2] True\n", err: "", code: 0 });
  const limits = ["--rlimit", "NOFILE=33", "--rlimit", "CORE=0", "--rlimit", "FSIZE=4096"];
  const limited = await launch([...limits, "--", "/bin/sh", "-c", "ulimit -n; ulimit -Hc; ulimit -f"]);
  expect(limited.out).toBe("33\n0\n8\n");
});

test.skipIf(!IS_ROOT)("gives up the user, the group and all other groups", async () => {
  const user = ["--uid", "234567", "--gid", "234568"];
  const { out } = await launch([
    ...user,
    "--",
    "/bin/sh",
    "-c",
    "grep -E '^(Uid|Gid|Groups|CapEff)' /proc/self/status",
  ]);
  const lines = out.split("\n").map((line) => line.trim().split(/\s+/));
  expect(lines.slice(0, 4)).toEqual([
    ["Uid:", ...Array.from({ length: 4 }, () => "234567")],
    ["Gid:", ...Array.from({ length: 4 }, () => "234568")],
    ["Groups:"],
    ["CapEff:", "0000000000000000"],
  ]);
});

test("runs nothing when anything can't be done", async () => {
  const touch = ["--", "/bin/echo", "ran"];
  const refused = [
    ["--rlimit", "NOFILE=many", ...touch],
    ["--rlimit", "NOFILE=-1", ...touch],
    ["--rlimit", "NONE=1", ...touch],
    ["--rlimit", "NOFILE", ...touch],
    ["--cgroup", "/none", ...touch],
    ["--cgroup", "/".padEnd(5000, "x"), ...touch],
    ["--uid", "", ...touch],
    ["--unknown", "1", ...touch],
    ["--uid"],
    ["--"],
    [],
    ["--", "/none"],
  ];
  const results = await Promise.all(refused.map((args) => launch(args)));
  for (const { out, err, code } of results) {
    expect({ out, code }).toEqual({ out: "", code: REFUSED });
    expect(err).toMatch(/^sandbox-init: .+\n$/);
  }
});

test("the program ends with its starter", async () => {
  const binary = await initBinary();
  const script = `'${binary}' launch -- /bin/sh -c 'echo $$; exec sleep 100' & read wait; kill -9 $$`;
  const child = Bun.spawn(["/bin/bash", "-c", script], { stdin: "pipe", stdout: "pipe" });
  const reader = child.stdout.getReader();
  const first = await reader.read();
  expect(Number(Buffer.from(first.value ?? []).toString())).toBeGreaterThan(1);
  void child.stdin.write("\n");
  void child.stdin.end();
  // The pipe ends when nobody has it open any more.
  expect((await reader.read()).done).toBe(true);
});
