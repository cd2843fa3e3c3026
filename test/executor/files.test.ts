import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { AppError } from "../../src/errors.ts";
import { WorkspaceFiles, type Upload } from "../../src/executor/files.ts";

const IS_ROOT = process.getuid?.() === 0;
const OWNER = IS_ROOT ? { uid: 765_432, gid: 765_432 } : undefined;
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

let top: string;
let root: string;
let outside: string;
let room: number;
let uploads: string[];
let files: WorkspaceFiles;

beforeEach(() => {
  top = mkdtempSync("/tmp/sandbox-files-");
  root = join(top, "workspace");
  outside = join(top, "outside");
  for (const path of [root, outside, join(top, "incoming")]) mkdirSync(path);
  if (OWNER !== undefined) Bun.spawnSync(["chown", `${OWNER.uid}:${OWNER.gid}`, root]);
  writeFileSync(join(outside, "secret"), "secret");
  room = NO_LIMIT;
  uploads = [];
  files = new WorkspaceFiles(root, { owner: OWNER, beginUpload, incomingDir: join(top, "incoming") });
});
afterEach(() => rmSync(top, { recursive: true, force: true }));

async function beginUpload(): Promise<Upload> {
  let taken = 0;
  return {
    take: (bytes) => (taken += bytes) <= room,
    end: (isKept) => void uploads.push(`${isKept ? "kept" : "gone"} ${taken}`),
  };
}

function body(...chunks: (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
      controller.close();
    },
  });
}

async function codeOf(act: Promise<unknown>): Promise<string> {
  return act.then(
    () => "",
    (error: AppError) => error.code ?? String(error),
  );
}

function get(path: string, headers: Record<string, string> = {}, method: "GET" | "HEAD" = "GET"): Promise<Response> {
  return files.read(path, method, new Headers(headers));
}

function put(path: string, text = "x"): ReturnType<WorkspaceFiles["write"]> {
  return files.write(path, body(text), NO_LIMIT);
}

/** Descriptors of this process. One of a process that has just ended may still go. */
function openFiles(): number {
  return readdirSync("/proc/self/fd").length;
}

describe("paths", () => {
  const BAD = ["/etc/passwd", "..", "../x", "a/../../x", "a/..", "nul\0", "a//b", "\ufffd", "x".repeat(256), "//"];
  test.each(BAD)("%p is refused by everything", async (path) => {
    for (const act of [
      get(path),
      put(path),
      files.remove(path),
      files.makeDirectory(path),
      files.move(path, "to"),
      files.move("from", path),
    ])
      expect(await codeOf(act)).toBe("invalid_path");
    expect(await codeOf(files.list(path, { recursive: true, limit: 10 }))).toBe("invalid_path");
  });

  test("a dot, a slash at the end and odd names are as usual", async () => {
    for (const name of ["sp ace", "ünïcødé-文", "per%cent", 'quo"te', "-rf", "a\nb", ".hidden", "~", "*"]) {
      await put(`dir/${name}`, name);
      expect(await (await get(`./dir/./${name}`)).text()).toBe(name);
      expect((await files.list(`dir/${name}/`, { recursive: false, limit: 10 }))[0]?.name).toBe(name);
    }
  });

  test("one that is too deep is refused, also on the disk", async () => {
    expect(await codeOf(put(Array.from({ length: 400 }, () => "d").join("/")))).toBe("invalid_path");
    const before = openFiles();
    expect(await codeOf(get(Array.from({ length: 400 }, () => "d").join("/")))).toBe("invalid_path");
    expect(openFiles()).toBeLessThanOrEqual(before);
  });

  test("the workspace itself can't be read, written, removed or moved", async () => {
    expect(await codeOf(get(""))).toBe("file_conflict");
    expect(await codeOf(put("."))).toBe("file_conflict");
    expect(await codeOf(files.remove(""))).toBe("invalid_path");
    expect(await codeOf(files.move("", "x"))).toBe("invalid_path");
    expect(await files.move("a/b", "a/b/c/d").catch(String)).toContain("a/b can't be moved into itself");
    await files.makeDirectory("");
  });
});

describe("links", () => {
  test("that stay inside are followed, absolute ones as the sandbox sees them", async () => {
    await put("real/f", "in");
    symlinkSync("real", join(root, "inner"));
    symlinkSync("/workspace/real/f", join(root, "absolute"));
    symlinkSync("../real/../inner/f", join(root, "real/winding"));
    symlinkSync("/workspace", join(root, "self"));
    for (const path of ["inner/f", "absolute", "real/winding", "self/self/real/f"])
      expect(await (await get(path)).text()).toBe("in");
    await put("inner/g", "new");
    expect(readFileSync(join(root, "real/g"), "utf8")).toBe("new");
    await put("absolute", "over");
    expect(readFileSync(join(root, "real/f"), "utf8")).toBe("over");
    expect(lstatSync(join(root, "absolute")).isSymbolicLink()).toBe(true);
  });

  test.each([
    ["a directory", (path: string) => symlinkSync(outside, path), "link/secret"],
    ["a file", (path: string) => symlinkSync(join(outside, "secret"), path), "link"],
    ["by going up", (path: string) => symlinkSync("../outside/secret", path), "link"],
    ["by a name that only looks like the workspace", (path: string) => symlinkSync("/workspace-not/x", path), "link"],
    [
      "through another link",
      (path: string) => [symlinkSync("/proc/self/root", `${path}2`), symlinkSync("link2/etc/passwd", path)],
      "link",
    ],
    ["in a circle", (path: string) => symlinkSync("link", path), "link"],
  ] as const)("out of it: %s", async (_, make, path) => {
    make(join(root, "link"));
    for (const act of [
      get(path),
      put(path),
      files.makeDirectory(`${path}/d`),
      put(`${path}/x`),
      files.move("link/secret", "x"),
    ])
      expect(await codeOf(act)).toMatch(/^(invalid_path|file_not_found)$/);
    expect(await codeOf(get(path))).toBe("invalid_path");
    expect(readFileSync(join(outside, "secret"), "utf8")).toBe("secret");
    expect(readdirSync(outside)).toEqual(["secret"]);
  });

  test("are listed, moved and removed themselves, not what they lead to", async () => {
    symlinkSync(outside, join(root, "out"));
    const [entry, ...more] = await files.list("", { recursive: true, limit: 10 });
    expect(entry).toMatchObject({ name: "out", type: "symlink" });
    expect(more).toEqual([]);
    await files.move("out", "moved");
    await files.remove("moved");
    expect(readdirSync(root)).toEqual([]);
    expect(readdirSync(outside)).toEqual(["secret"]);
  });

  test("a directory of links is removed without what they lead to", async () => {
    mkdirSync(join(root, "dir/sub"), { recursive: true });
    symlinkSync(outside, join(root, "dir/sub/out"));
    if (OWNER !== undefined) Bun.spawnSync(["chown", "-hR", `${OWNER.uid}`, join(root, "dir")]);
    await files.remove("dir");
    expect(existsSync(join(root, "dir"))).toBe(false);
    expect(readdirSync(outside)).toEqual(["secret"]);
  });
});

describe("what is no regular file", () => {
  test("blocks nobody", async () => {
    Bun.spawnSync(["mkfifo", join(root, "fifo")]);
    mkdirSync(join(root, "dir"));
    const server = Bun.listen({ unix: join(root, "sock"), socket: { data: () => {} } });
    const before = openFiles();
    for (const name of ["fifo", "sock", "dir"]) expect(await codeOf(get(name))).toBe("file_conflict");
    expect(openFiles()).toBeLessThanOrEqual(before);
    server.stop(true);
    await put("fifo", "a file now");
    expect(lstatSync(join(root, "fifo")).isFile()).toBe(true);
  });

  test("is listed as what it is", async () => {
    Bun.spawnSync(["mkfifo", join(root, "fifo")]);
    mkdirSync(join(root, "dir"));
    symlinkSync("nowhere", join(root, "link"));
    writeFileSync(join(root, "file"), "12345");
    const listed = await files.list("", { recursive: false, limit: 10 });
    expect(listed.map(({ name, type }) => [name, type])).toEqual([
      ["dir", "directory"],
      ["fifo", "other"],
      ["file", "file"],
      ["link", "symlink"],
    ]);
  });
});

describe("listing", () => {
  beforeEach(async () => {
    for (const path of ["list/a.txt", "list/sub/b.txt", "listed.txt"]) await put(path);
  });

  test("a directory, not a prefix; with what is below, or without; a file is itself", async () => {
    const paths = async (path: string, recursive: boolean) =>
      (await files.list(path, { recursive, limit: 100 })).map((entry) => entry.path);
    expect(await paths("list", true)).toEqual(["list/a.txt", "list/sub", "list/sub/b.txt"]);
    expect(await paths("list", false)).toEqual(["list/a.txt", "list/sub"]);
    expect(await paths("listed.txt", true)).toEqual(["listed.txt"]);
    expect(await paths("", false)).toEqual(["list", "listed.txt"]);
    expect(await codeOf(paths("nowhere", true))).toBe("file_not_found");
  });

  test("says size, time, mode and tag, and stops at its limit", async () => {
    chmodSync(join(root, "listed.txt"), 0o750);
    utimesSync(join(root, "listed.txt"), 1000, 2000);
    const [entry] = await files.list("listed.txt", { recursive: true, limit: 10 });
    expect(entry).toMatchObject({ size: 1, modifiedMs: 2_000_000, mode: "0750", type: "file" });
    expect(entry?.etag).toBe((await get("listed.txt", {}, "HEAD")).headers.get("ETag") ?? "");
    expect((await files.list("", { recursive: true, limit: 2 })).length).toBe(2);
  });

  test("of very deep directories ends, lets others have their turn, and holds no descriptor", async () => {
    await Bun.spawn(["bash", "-c", "for i in {1..400}; do mkdir d; cd d; done"], { cwd: root, ...OWNER }).exited;
    const before = openFiles();
    let turns = 0;
    let next: NodeJS.Immediate;
    const takeTurn = (): void => {
      turns++;
      next = setImmediate(takeTurn);
    };
    takeTurn();
    expect((await files.list("", { recursive: true, limit: 1000 })).length).toBeLessThan(400);
    clearImmediate(next!);
    expect(turns).toBeGreaterThan(3);
    expect(openFiles()).toBeLessThanOrEqual(before);
    await files.remove("d");
  });
});

describe("writing", () => {
  test("makes parents, says whether it is new, belongs to the workspace's user", async () => {
    expect(await put("deep/er/a", "1234")).toEqual({ path: "deep/er/a", size: 4, created: true });
    expect(await put("deep/er/a", "12")).toEqual({ path: "deep/er/a", size: 2, created: false });
    for (const path of ["deep", "deep/er", "deep/er/a"])
      expect(lstatSync(join(root, path)).uid).toBe(OWNER?.uid ?? process.getuid?.() ?? 0);
    expect(lstatSync(join(root, "deep/er/a")).mode & 0o777).toBe(0o644);
    expect(uploads).toEqual(["kept 4", "kept 2"]);
  });

  test("keeps the mode of what it replaces, but not its other names", async () => {
    await put("run.sh", "old");
    chmodSync(join(root, "run.sh"), 0o755);
    linkSync(join(root, "run.sh"), join(root, "other"));
    await put("run.sh", "new");
    expect(lstatSync(join(root, "run.sh")).mode & 0o777).toBe(0o755);
    expect(readFileSync(join(root, "other"), "utf8")).toBe("old");
  });

  test("is seen whole or not at all", async () => {
    await put("f", "old");
    const more = Promise.withResolvers<void>();
    const slow = new ReadableStream<Uint8Array>({
      async start(controller) {
        controller.enqueue(Buffer.from("new"));
        await more.promise;
        controller.enqueue(Buffer.from("er"));
        controller.close();
      },
    });
    const writing = files.write("f", slow, NO_LIMIT);
    await Bun.sleep(5);
    expect(readFileSync(join(root, "f"), "utf8")).toBe("old");
    expect(readdirSync(root)).toEqual(["f"]);
    more.resolve();
    await writing;
    expect(readFileSync(join(root, "f"), "utf8")).toBe("newer");
  });

  test.each([
    ["past the limit of a file", 3, NO_LIMIT, "body_too_large"],
    ["past the disk limit", NO_LIMIT, 3, "disk_full"],
    ["where nothing is left", NO_LIMIT, -1, "disk_full"],
  ] as const)("%s leaves nothing", async (_, limit, left, code) => {
    room = left;
    expect(await codeOf(files.write("new/f", body("12", "34"), limit))).toBe(code);
    expect(existsSync(join(root, "new/f"))).toBe(false);
    expect(readdirSync(join(top, "incoming"))).toEqual([]);
    expect(uploads.map((one) => one.split(" ")[0])).toEqual(["gone"]);
  });

  test("that breaks off leaves what was there", async () => {
    await put("f", "old");
    const broken = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.error(new Error("the client is gone"));
      },
    });
    expect(await codeOf(files.write("f", broken, NO_LIMIT))).toContain("the client is gone");
    expect(readFileSync(join(root, "f"), "utf8")).toBe("old");
    expect(readdirSync(join(top, "incoming"))).toEqual([]);
  });

  test("over a directory, or below a file, is a conflict", async () => {
    await put("dir/f");
    expect(await codeOf(put("dir"))).toBe("file_conflict");
    expect(await codeOf(put("dir/f/g"))).toBe("file_conflict");
  });

  test("without a directory for what is not whole leaves nothing either", async () => {
    files = new WorkspaceFiles(root, { owner: OWNER, beginUpload });
    await put("a/f", "text");
    room = 0;
    expect(await codeOf(put("a/g", "text"))).toBe("disk_full");
    expect(readdirSync(join(root, "a"))).toEqual(["f"]);
  });

  test("a hundred megabytes take no memory to speak of", async () => {
    const chunk = new Uint8Array(1 << 20);
    let sent = 0;
    const big = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent++ < 100) controller.enqueue(chunk);
        else controller.close();
      },
    });
    Bun.gc(true);
    const before = process.memoryUsage.rss();
    expect(await files.write("big", big, NO_LIMIT)).toMatchObject({ size: 100 << 20 });
    const answer = await get("big");
    let read = 0;
    for await (const part of answer.body ?? []) read += part.length;
    expect(read).toBe(100 << 20);
    expect(process.memoryUsage.rss() - before).toBeLessThan(48 << 20);
  }, 20_000);
});

describe("reading", () => {
  beforeEach(() => put("digits", "0123456789"));

  test.each([
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=7-", 206, "789", "bytes 7-9/10"],
    ["bytes=-3", 206, "789", "bytes 7-9/10"],
    ["bytes=-30", 206, "0123456789", "bytes 0-9/10"],
    ["bytes=8-100", 206, "89", "bytes 8-9/10"],
    ["bytes=20-", 416, "", "bytes */10"],
    ["bytes=-0", 416, "", "bytes */10"],
    ["bytes=4-2", 200, "0123456789", null],
    ["bytes=1-2,4-5", 200, "0123456789", null],
    ["bytes=a-b", 200, "0123456789", null],
    ["lines=1-2", 200, "0123456789", null],
  ])("Range %p", async (range, status, text, contentRange) => {
    const answer = await get("digits", { Range: range });
    expect(answer.status).toBe(status);
    expect(await answer.text()).toBe(text);
    expect(answer.headers.get("Content-Range")).toBe(contentRange);
    if (status !== 416) expect(answer.headers.get("Content-Length")).toBe(String(text.length));
  });

  test("of what the reader has already", async () => {
    const etag = (await get("digits", {}, "HEAD")).headers.get("ETag") ?? "";
    for (const header of [etag, "*", `"x", W/${etag}`])
      expect((await get("digits", { "If-None-Match": header })).status).toBe(304);
    expect((await get("digits", { "If-None-Match": '"x"' })).status).toBe(200);
    expect((await get("digits", { "If-Range": etag, Range: "bytes=0-0" })).status).toBe(206);
    expect((await get("digits", { "If-Range": '"x"', Range: "bytes=0-0" })).status).toBe(200);
  });

  test("a change shows in the tag, also one that sets the time back", async () => {
    const before = lstatSync(join(root, "digits"));
    const etag = (await get("digits", {}, "HEAD")).headers.get("ETag");
    await Bun.sleep(10);
    writeFileSync(join(root, "digits"), "9876543210");
    utimesSync(join(root, "digits"), before.atimeMs / 1000, before.mtimeMs / 1000);
    expect((await get("digits", {}, "HEAD")).headers.get("ETag")).not.toBe(etag);
  });

  test("an empty file, and one that is not there", async () => {
    await files.write("empty", body(), NO_LIMIT);
    const answer = await get("empty");
    expect([answer.status, answer.headers.get("Content-Length"), await answer.text()]).toEqual([200, "0", ""]);
    expect(await codeOf(get("nowhere"))).toBe("file_not_found");
    expect(await codeOf(get("digits/below"))).toMatch(/^file_(not_found|conflict)$/);
  });

  test("holds no descriptor: read, given up, aborted, refused", async () => {
    await files.write("big", body(new Uint8Array(4 << 20)), NO_LIMIT);
    const before = openFiles();
    for (let i = 0; i < 20; i++) {
      await (await get("big")).arrayBuffer();
      await (await get("big")).body?.cancel();
      await get("big", {}, "HEAD");
      await get("big", { Range: "bytes=99999999-" });
      const abort = new AbortController();
      const reader = (await files.read("big", "GET", new Headers(), abort.signal)).body?.getReader();
      await reader?.read();
      const last = reader?.read();
      abort.abort();
      await last;
      await codeOf(get("nowhere"));
    }
    expect(openFiles()).toBeLessThanOrEqual(before);
  });

  test("a file that shrinks breaks the body off", async () => {
    await files.write("big", body(new Uint8Array(4 << 20)), NO_LIMIT);
    const answer = await get("big");
    truncateSync(join(root, "big"), 300_000);
    expect(await codeOf(answer.arrayBuffer())).toContain("shorter");
  });
});

describe("moving, removing, making", () => {
  test("move makes parents and never replaces", async () => {
    await put("one", "1");
    await put("two", "2");
    await files.move("one", "n/e/w");
    expect(await (await get("n/e/w")).text()).toBe("1");
    expect(await codeOf(files.move("two", "n/e/w"))).toBe("file_conflict");
    expect(await codeOf(files.move("nowhere", "x"))).toBe("file_not_found");
    expect(await codeOf(files.move("n", "n/e/inside"))).toBe("invalid_path");
    await files.move("n", "m");
    expect(await (await get("m/e/w")).text()).toBe("1");
  });

  test("remove takes files and whole directories", async () => {
    await put("a/b/c");
    await put("f");
    await files.remove("a");
    await files.remove("f");
    expect(readdirSync(root)).toEqual([]);
    expect(await codeOf(files.remove("f"))).toBe("file_not_found");
    expect(await codeOf(files.remove("x/y"))).toBe("file_not_found");
  });

  test("mkdir makes parents; a directory that is there is fine, a file is not", async () => {
    await files.makeDirectory("n/e/w");
    await files.makeDirectory("n/e/w");
    await put("n/f");
    expect(await codeOf(files.makeDirectory("n/f"))).toBe("file_conflict");
    expect(lstatSync(join(root, "n/e/w")).uid).toBe(OWNER?.uid ?? process.getuid?.() ?? 0);
  });
});
