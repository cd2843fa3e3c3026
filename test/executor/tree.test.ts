import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { restoreTree } from "../../src/executor/archive.ts";
import type { WorkspaceContent } from "../../src/executor/protocol.ts";
import { MAX_TREE_ENTRIES, TreeReader } from "../../src/executor/tree.ts";
import { IS_ROOT } from "./jail/fixture.ts";

let top: string;
let root: string;
let restored: string;
beforeEach(() => {
  top = fs.mkdtempSync("/tmp/sandbox-tree-");
  root = join(top, "workspace");
  restored = join(top, "restored");
  fs.mkdirSync(root);
  fs.mkdirSync(restored);
  fs.writeFileSync(join(top, "secret"), "secret");
});
afterEach(() => fs.rmSync(top, { recursive: true, force: true }));

const sha256 = (bytes: string | Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const read = (maxBytes = Number.MAX_SAFE_INTEGER) => new TreeReader(root).read(maxBytes);

/** What the control plane sends: the content, then the bytes, in pieces of any size. */
function archive(content: WorkspaceContent, bytes: Uint8Array, piece = 7): ReadableStream<Uint8Array> {
  const whole = Buffer.concat([Buffer.from(`${JSON.stringify(content)}\n`), bytes]);
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= whole.length) return controller.close();
      controller.enqueue(whole.subarray(at, (at += piece)));
    },
  });
}

async function copied(): Promise<void> {
  const tree = await read();
  const bytes = Buffer.concat(tree.entries.map(({ path }) => fs.readFileSync(join(root, path))));
  await restoreTree(restored, archive(tree, bytes, 1000));
}

async function refusal(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  return work.then(
    () => ({ code: "", message: "not refused" }),
    (error: { code: string; message: string }) => error,
  );
}

describe("what a version keeps", () => {
  test("files with mode, time and hash; empty directories; links as they are", async () => {
    fs.mkdirSync(join(root, "a/empty"), { recursive: true });
    fs.chmodSync(join(root, "a/empty"), 0o700);
    fs.writeFileSync(join(root, "a/run.sh"), "echo");
    fs.chmodSync(join(root, "a/run.sh"), 0o755);
    fs.utimesSync(join(root, "a/run.sh"), 1000, 1_500_000_000);
    fs.writeFileSync(join(root, "empty"), "");
    fs.symlinkSync("../../secret", join(root, "a/out"));
    const tree = await read();
    expect(tree).toMatchObject({
      entries: [
        { path: "a/run.sh", mode: "0755", size: 4, sha256: sha256("echo"), modified_ms: 1_500_000_000_000 },
        { path: "empty", size: 0, sha256: sha256("") },
      ],
      directories: [
        { path: "a", mode: "0755" },
        { path: "a/empty", mode: "0700" },
      ],
      links: [{ path: "a/out", target: "../../secret" }],
      skipped: 0,
    });
    await copied();
    expect(fs.statSync(join(restored, "a/run.sh")).mode & 0o777).toBe(0o755);
    expect(fs.statSync(join(restored, "a/run.sh")).mtimeMs).toBe(1_500_000_000_000);
    expect(fs.statSync(join(restored, "a/empty")).mode & 0o777).toBe(0o700);
    expect(fs.readlinkSync(join(restored, "a/out"))).toBe("../../secret");
    expect(fs.readFileSync(join(restored, "empty"), "utf8")).toBe("");
  });

  test("pipes, sockets and names that are not UTF-8 are left out and counted; set-user-id goes", async () => {
    Bun.spawnSync(["mkfifo", join(root, "pipe")]);
    fs.writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), "x");
    fs.writeFileSync(join(root, "suid"), "x");
    fs.chmodSync(join(root, "suid"), 0o4755);
    const tree = await read();
    expect(tree.entries.map(({ path, mode }) => [path, mode])).toEqual([["suid", "0755"]]);
    expect(tree.skipped).toBe(2);
  });

  test("what a mode closes to its own user is left out and counted", async () => {
    for (const [name, mode] of [
      ["listed", 0o400],
      ["closed", 0],
    ] as const) {
      fs.mkdirSync(join(root, name));
      fs.writeFileSync(join(root, name, "hidden"), "x");
      fs.chmodSync(join(root, name), mode);
    }
    fs.writeFileSync(join(root, "seen"), "x");
    try {
      const { entries, directories, skipped } = await read();
      const found = [entries.map(({ path }) => path), directories.map(({ path }) => path), skipped];
      const all = ["closed/hidden", "listed/hidden", "seen"];
      expect(found).toEqual([IS_ROOT ? all : ["seen"], ["closed", "listed"], IS_ROOT ? 0 : 2]);
    } finally {
      for (const name of ["listed", "closed"]) fs.chmodSync(join(root, name), 0o700);
    }
  });

  test("the tag is the content's: the same again has it, any change another", async () => {
    fs.writeFileSync(join(root, "f"), "one");
    const reader = new TreeReader(root);
    const { tag } = await reader.read(1000);
    expect((await reader.read(1000)).tag).toBe(tag);
    fs.utimesSync(join(root, "f"), 1, 1);
    const touched = (await reader.read(1000)).tag;
    expect(touched).not.toBe(tag);
    // The same size and modification time: only the change time tells.
    fs.writeFileSync(join(root, "f"), "two");
    fs.utimesSync(join(root, "f"), 1, 1);
    const changed = await reader.read(1000);
    expect([changed.tag === touched, changed.entries[0]?.sha256]).toEqual([false, sha256("two")]);
  });

  test("what is known is not read again", async () => {
    fs.writeFileSync(join(root, "large"), new Uint8Array(16 * 1024 ** 2 + 1));
    // What changed a moment ago may change again without another change time, and is not taken for known.
    await Bun.sleep(150);
    const reader = new TreeReader(root);
    const bytesRead = (): number => Number(/^rchar: (\d+)$/m.exec(fs.readFileSync("/proc/self/io", "utf8"))?.[1]);
    const before = bytesRead();
    const first = await reader.read(Number.MAX_SAFE_INTEGER);
    const between = bytesRead();
    expect(between - before).toBeGreaterThan(16 * 1024 ** 2);
    expect(await reader.read(Number.MAX_SAFE_INTEGER)).toEqual(first);
    expect(bytesRead() - between).toBeLessThan(1024 ** 2);
  });

  test("more bytes or entries than a version can have are refused, also bytes that are holes", async () => {
    fs.writeFileSync(join(root, "f"), "");
    fs.truncateSync(join(root, "f"), 1024 ** 4);
    expect((await refusal(read(1024 ** 3))).code).toBe("body_too_large");
    fs.rmSync(join(root, "f"));
    const made = Bun.spawn(["sh", "-c", `seq ${MAX_TREE_ENTRIES + 1} | xargs touch`], { cwd: root });
    await made.exited;
    expect((await refusal(read())).message).toContain("entries");
  }, 20_000);

  test("a program that swaps directories for links meanwhile gets nothing from outside in", async () => {
    fs.mkdirSync(join(top, "outside"));
    fs.writeFileSync(join(top, "outside/secret"), "secret");
    const loop = "while :; do rm -rf d; mkdir d; echo own >d/secret; rm -rf d; ln -s ../outside d; done";
    const racer = Bun.spawn(["sh", "-c", loop], { cwd: root, stderr: "ignore" });
    try {
      const hashes = new Set<string>();
      for (const end = performance.now() + 1000; performance.now() < end; await Bun.sleep(0))
        for (const entry of (await read()).entries) hashes.add(entry.sha256);
      expect(hashes).toContain(sha256("own\n"));
      expect(hashes).not.toContain(sha256("secret"));
    } finally {
      racer.kill("SIGKILL");
      await racer.exited;
    }
  }, 20_000);
});

describe("restoring", () => {
  const file = (path: string, bytes = "x") => ({ path, mode: "0644", size: bytes.length, sha256: sha256(bytes) });
  const content = (fields: Partial<WorkspaceContent>): WorkspaceContent => ({
    entries: [],
    directories: [],
    links: [],
    ...fields,
  });
  const restore = (fields: Partial<WorkspaceContent>, bytes = "x") =>
    restoreTree(restored, archive(content(fields), Buffer.from(bytes)));

  test("what was there before goes", async () => {
    fs.writeFileSync(join(restored, "left"), "by an attempt that failed");
    await restore({ entries: [file("f")] });
    expect(fs.readdirSync(restored)).toEqual(["f"]);
  });

  for (const path of ["../f", "/f", "a/../../f", "a//f", "", ".", "nul\0"])
    test(`the path ${JSON.stringify(path)} is refused`, async () => {
      expect((await refusal(restore({ entries: [file(path)] }))).code).toMatch(/bad_request|invalid_path/);
      expect(fs.readdirSync(top).toSorted()).toEqual(["restored", "secret", "workspace"]);
      expect(fs.readdirSync(restored)).toEqual([]);
    });

  test("no file goes through a link, and no path is there twice", async () => {
    const links = [{ path: "d", target: ".." }];
    expect((await refusal(restore({ links, entries: [file("d/secret")] }))).code).toBe("bad_request");
    expect((await refusal(restore({ links, entries: [file("d")] }))).code).toBe("bad_request");
    expect(fs.readFileSync(join(top, "secret"), "utf8")).toBe("secret");
    expect(fs.readdirSync(restored)).toEqual([]);
  });

  test("other bytes, fewer and more are refused, and nothing stays", async () => {
    const entries = [file("f", "right")];
    for (const bytes of ["wrong", "righ", "right!"])
      expect((await refusal(restore({ entries }, bytes))).code).toBe("bad_request");
    expect(fs.readdirSync(restored)).toEqual([]);
  });
});
