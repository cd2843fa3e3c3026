import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../../src/errors.ts";
import { WorkspaceFiles } from "../../src/executor/files.ts";

const OWNER = process.getuid?.() === 0 ? { uid: 765_433, gid: 765_433 } : undefined;
const ROUNDS = 1500;

/**
 * Exchanges a directory and a link to the outside, a file and a link, as fast as it can. It follows no link itself, since it
 * may be the user to whom the outside belongs.
 */
const SWAPPER = `
import ctypes, os, sys
os.chdir(sys.argv[1])
outside = sys.argv[2]
os.makedirs("real/deep"); open("real/f", "w").write("in"); open("real/deep/f", "w").write("in")
os.symlink(outside, "dir"); os.symlink(outside + "/f", "file"); open("plain", "w").write("in")
libc = ctypes.CDLL(None)
print("up", flush=True)
while True:
    for a, b in ((b"dir", b"real"), (b"file", b"plain")): libc.renameat2(-100, a, -100, b, 2)
    for name in ("real", "dir"):
        try: here = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError: continue
        try:
            os.rename("deep", "../away", src_dir_fd=here, dst_dir_fd=here); os.symlink(outside, "deep", dir_fd=here)
            os.unlink("deep", dir_fd=here); os.rename("../away", "deep", src_dir_fd=here, dst_dir_fd=here)
        except OSError: pass
        os.close(here)
`;

let top: string;
let outside: string;
let swapper: Bun.Subprocess<"ignore", "pipe", "inherit">;
let files: WorkspaceFiles;

beforeAll(async () => {
  top = mkdtempSync("/tmp/sandbox-race-");
  chmodSync(top, 0o755);
  const root = join(top, "workspace");
  outside = join(top, "outside");
  for (const path of [root, outside, join(top, "incoming"), join(outside, "deep")]) mkdirSync(path);
  for (const path of ["f", "deep/f"]) writeFileSync(join(outside, path), "secret");
  if (OWNER !== undefined) Bun.spawnSync(["chown", `${OWNER.uid}:${OWNER.gid}`, root]);
  swapper = Bun.spawn(["/usr/bin/python3", "-c", SWAPPER, root, outside], {
    stdout: "pipe",
    stderr: "inherit",
    ...OWNER,
  });
  await swapper.stdout.getReader().read();
  const beginUpload = () => Promise.resolve({ take: () => true, end: () => {} });
  files = new WorkspaceFiles(root, { owner: OWNER, beginUpload, incomingDir: join(top, "incoming") });
});
afterAll(async () => {
  swapper.kill();
  await swapper.exited;
  rmSync(top, { recursive: true, force: true });
});

/** What it gave, or the code of its refusal; anything else than a refusal is thrown. */
async function tried<T>(act: Promise<T>): Promise<T | string> {
  try {
    return await act;
  } catch (error) {
    if (error instanceof AppError) return error.code;
    throw error;
  }
}

function tree(): string {
  const names = readdirSync(outside, { recursive: true }).map(String).toSorted();
  return JSON.stringify(
    names.map((name) => [name, name.endsWith("f") ? readFileSync(join(outside, name), "utf8") : ""]),
  );
}

test("whoever swaps links under it reads and changes nothing outside", async () => {
  const before = tree();
  const seen = new Set<string>();
  for (let i = 0; i < ROUNDS; i++) {
    const path = ["dir/f", "dir/deep/f", "file", "plain", "real/f", "real/deep/f"][i % 6] ?? "";
    const got = await tried(files.read(path, "GET", new Headers()).then((answer) => answer.text()));
    seen.add(got);
    expect(got).not.toBe("secret");
    await tried(files.write(path, new Blob(["in"]).stream(), 100));
    await tried(files.write(`dir/new${i % 3}/x`, new Blob(["in"]).stream(), 100));
    await tried(files.makeDirectory(`dir/made${i % 3}`));
    await tried(files.move("dir/made0", `dir/moved${i}`));
    const listed = await tried(files.list("dir", { recursive: true, limit: 50 }));
    if (typeof listed !== "string") expect(listed.filter((entry) => entry.size === "secret".length)).toEqual([]);
    await tried(files.remove(`dir/new${i % 3}/x`));
    await tried(files.remove(`dir/moved${i}`));
  }
  expect(tree()).toBe(before);
  expect(seen).toContain("in");
  expect(seen).toContain("invalid_path");
}, 60_000);

test("removing a directory that is swapped meanwhile removes nothing outside", async () => {
  const before = tree();
  for (let i = 0; i < 60; i++) await tried(files.remove(["dir", "real/deep", "dir/deep", "real"][i % 4] ?? ""));
  expect(tree()).toBe(before);
}, 60_000);
