import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { AppError } from "../../src/errors.ts";
import { createLog } from "../../src/log.ts";
import { openDiskObjects } from "../../src/objects/disk.ts";
import type { Objects } from "../../src/objects/objects.ts";
import { latestVersion } from "../../src/objects/versions.ts";
import type { Session } from "../../src/sessions/session.ts";
import { collectStored } from "../../src/workspaces/collect.ts";
import { restoreWorkspace } from "../../src/workspaces/restore.ts";
import { StoredFiles } from "../../src/workspaces/stored-files.ts";
import { storedName } from "../../src/workspaces/stored-name.ts";
import { WorkspaceVersions } from "../../src/workspaces/workspace-versions.ts";
import { DirectoryExecutor } from "./directory-executor.ts";

const GRACE_MS = 60_000;
const logged: string[] = [];
const log = createLog({ level: "info", format: "json", write: (line) => void logged.push(line) });

let top: string;
let objects: Objects;
let executor: DirectoryExecutor;
let session: Session | null;

beforeEach(async () => {
  top = fs.mkdtempSync("/tmp/sandbox-versions-");
  objects = await openDiskObjects(join(top, "objects"));
  executor = newExecutor("workspace");
  executor.sandbox = "s1";
  session = sessionOf("s1", "2026-01-01T00:00:00.000Z");
});
afterEach(() => fs.rmSync(top, { recursive: true, force: true }));

function sessionOf(id: string, createdAt: string): Session {
  const fields = {
    id,
    created_at: createdAt,
    updated_at: createdAt,
    completed_at: null,
    disk: "1Mi",
    runtime_node: "n",
  };
  return { ...fields, tenant: "t", status: "running" } as unknown as Session;
}

function newExecutor(name: string): DirectoryExecutor {
  fs.mkdirSync(join(top, name));
  return new DirectoryExecutor(join(top, name));
}

/** What one replica has. */
function replica(store = objects): WorkspaceVersions {
  const provisioner = { executorOf: () => Promise.resolve(executor.asExecutor) };
  return new WorkspaceVersions({
    objects: store,
    provisioner,
    sessions: {
      get: async () => session,
      idsByStatus: async (_statuses, after) => (after === "" && session !== null ? [session.id] : []),
    },
    log,
    graceMs: GRACE_MS,
  });
}

const write = (path: string, text: string): void => {
  fs.mkdirSync(join(executor.root, path, ".."), { recursive: true });
  fs.writeFileSync(join(executor.root, path), text);
};

async function stored(): Promise<Record<string, string>> {
  const manifest = await latestVersion(objects, storedName(session ?? sessionOf("s1", "")));
  const texts = (manifest?.entries ?? []).map(async ({ path, sha256 }) => {
    return [path, await new Response((await objects.get(sha256))?.body).text()];
  });
  return Object.fromEntries(await Promise.all(texts)) as Record<string, string>;
}

const versionsOf = () => objects.versions(storedName(session ?? sessionOf("s1", "")));

describe("storing", () => {
  test("a version has all that is there; what did not change makes none, and is not read again", async () => {
    write("a/f", "one");
    const versions = replica();
    await versions.store("s1");
    expect(await stored()).toEqual({ "a/f": "one" });
    await versions.store("s1");
    expect(await versionsOf()).toEqual([1]);
    write("g", "two");
    await versions.store("s1");
    expect(await stored()).toEqual({ "a/f": "one", g: "two" });
    expect(executor.reads).toEqual(["a/f", "g"]);
    // Another replica knows of nothing, and finds it all the same.
    await replica().store("s1");
    expect(await versionsOf()).toEqual([1, 2]);
    expect(executor.reads).toEqual(["a/f", "g"]);
  });

  test("an empty workspace has no version; what was emptied has", async () => {
    const versions = replica();
    await versions.store("s1");
    expect(await versionsOf()).toEqual([]);
    write("f", "x");
    await versions.store("s1");
    fs.rmSync(join(executor.root, "f"));
    await versions.store("s1");
    expect([await stored(), await versionsOf()]).toEqual([{}, [1, 2]]);
  });

  test("the last two versions stay", async () => {
    const versions = replica();
    for (const text of ["1", "22", "333", "4444"]) {
      write("f", text);
      await versions.store("s1");
    }
    expect(await versionsOf()).toEqual([3, 4]);
  });

  test("whoever asks while one is taken shares the next, which has what came before", async () => {
    const versions = replica();
    const entered = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    executor.hooks.tree = async () => {
      entered.resolve();
      await go.promise;
    };
    write("f", "first");
    const first = versions.store("s1");
    await entered.promise;
    delete executor.hooks.tree;
    write("late", "second");
    const others = Array.from({ length: 20 }, () => versions.store("s1"));
    go.resolve();
    await Promise.all([first, ...others]);
    expect(executor.trees).toBe(2);
    expect(await stored()).toEqual({ f: "first", late: "second" });
  });

  test("of replicas that store at once, none puts an older state over a newer", async () => {
    const slow = replica();
    const fast = replica();
    write("f", "oldest");
    await fast.store("s1");
    write("f", "old");
    const entered = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    // The slow one has read the tree, and stores it when the fast one has stored a later state.
    executor.hooks.tree = async () => {
      if (executor.trees > 2) return;
      entered.resolve();
      await go.promise;
    };
    const storing = slow.store("s1");
    await entered.promise;
    write("f", "newer");
    await fast.store("s1");
    go.resolve();
    await storing;
    expect(await stored()).toEqual({ f: "newer" });
  });

  test("many changes stored by three replicas end with the last of them", async () => {
    const replicas = [replica(), replica(), replica()];
    const storing: Promise<void>[] = [];
    for (let i = 0; i < 30; i++) {
      write(`f${i % 5}`, `text ${i}`);
      const one = replicas[i % 3]?.store("s1");
      if (one !== undefined) storing.push(one);
      await Bun.sleep(1);
    }
    await Promise.all(storing);
    expect(await stored()).toEqual({ f0: "text 25", f1: "text 26", f2: "text 27", f3: "text 28", f4: "text 29" });
  });

  test("files that change while they are read are stored as they then are; those that are gone are not", async () => {
    for (const name of ["appended", "gone", "shrunk", "same"]) write(name, `${name} at first`);
    executor.hooks.read = async (path) => {
      if (path === "appended") fs.appendFileSync(join(executor.root, path), " and more");
      if (path === "gone") fs.rmSync(join(executor.root, path), { force: true });
      if (path === "shrunk") fs.truncateSync(join(executor.root, path));
    };
    const versions = replica();
    await versions.store("s1");
    expect(await stored()).toEqual({ appended: "appended at first", shrunk: "", same: "same at first" });
    executor.hooks = {};
    await versions.store("s1");
    expect(await stored()).toMatchObject({ appended: "appended at first and more and more".slice(0, 26) });
  });

  test("a file that was empty and grows, or turns into a directory or a link that leads out, keeps nothing from being stored", async () => {
    for (const name of ["directory", "link", "same"]) write(name, `${name} at first`);
    write("grown", "");
    executor.hooks.tree = async () => fs.appendFileSync(join(executor.root, "grown"), "more");
    executor.hooks.read = async (path) => {
      if (path === "same") return;
      fs.rmSync(join(executor.root, path), { force: true, recursive: true });
      if (path === "directory") fs.mkdirSync(join(executor.root, path));
      if (path === "link") fs.symlinkSync("/etc/passwd", join(executor.root, path));
    };
    const versions = replica();
    await versions.store("s1");
    expect(await stored()).toEqual({ grown: "", same: "same at first" });
    executor.hooks = {};
    await versions.store("s1");
    expect(await stored()).toEqual({ grown: "more", same: "same at first" });
  });

  test("a workspace that is larger than a version can be keeps the version before", async () => {
    const versions = replica();
    write("f", "kept");
    await versions.store("s1");
    fs.truncateSync(join(executor.root, "f"), 1024 ** 3);
    expect(await versions.store("s1").catch((error: unknown) => error)).toMatchObject({ code: "body_too_large" });
    expect(await stored()).toEqual({ f: "kept" });
  });

  test("after an execution it is stored shortly, and at a stop at once", async () => {
    const versions = replica();
    write("f", "of an execution");
    versions.mayHaveChanged("s1");
    versions.mayHaveChanged("s1");
    expect(await versionsOf()).toEqual([]);
    await versions.stop(5000);
    expect(await stored()).toEqual({ f: "of an execution" });
    expect(executor.trees).toBe(1);
    versions.mayHaveChanged("s1");
    await Bun.sleep(300);
    expect(executor.trees).toBe(1);
  });

  test("what a replica that was killed left out is stored by the next that starts", async () => {
    write("f", "left out");
    const next = replica();
    await next.catchUp();
    await next.stop(5000);
    expect(await stored()).toEqual({ f: "left out" });
  });

  test("a store that fails is tried again while the session lives", async () => {
    let failures = 1;
    const failing = new Proxy(objects, {
      get(target, name: keyof Objects) {
        if (name === "putManifest" && failures-- > 0)
          return () => Promise.reject(new AppError("store_unavailable", "no"));
        const value = target[name];
        return typeof value === "function" ? (value as (...all: unknown[]) => unknown).bind(target) : value;
      },
    });
    write("f", "x");
    replica(failing).mayHaveChanged("s1");
    const end = performance.now() + 5000;
    while ((await versionsOf()).length === 0 && performance.now() < end) await Bun.sleep(20);
    expect(await stored()).toEqual({ f: "x" });
  });

  test("a session that is deleted meanwhile leaves no version", async () => {
    write("f", "x");
    const deleted = session;
    executor.hooks.read = async () => void (session = null);
    await replica().store("s1");
    expect(await objects.versions(storedName(deleted ?? sessionOf("s1", "")))).toEqual([]);
  });
});

describe("restoring", () => {
  test("a new executor gets files, modes, links and empty directories, before its sandbox is there", async () => {
    write("a/run.sh", "echo");
    fs.chmodSync(join(executor.root, "a/run.sh"), 0o755);
    fs.mkdirSync(join(executor.root, "empty"));
    fs.symlinkSync("a/run.sh", join(executor.root, "link"));
    for (let i = 0; i < 30; i++) write(`many/${i}`, `file ${i}`);
    await replica().store("s1");
    const fresh = newExecutor("fresh");
    await restoreWorkspace(objects, session ?? sessionOf("s1", ""), fresh.asExecutor);
    expect(fresh.names).toEqual(["a", "empty", "link", "many"]);
    expect(fs.readFileSync(join(fresh.root, "link"), "utf8")).toBe("echo");
    expect(fs.readFileSync(join(fresh.root, "many/29"), "utf8")).toBe("file 29");
    expect(fs.statSync(join(fresh.root, "a/run.sh")).mode & 0o777).toBe(0o755);
    // The same content is the same version, whoever has it.
    executor = fresh;
    await replica().store("s1");
    expect(await versionsOf()).toEqual([1]);
  });

  test("one whose sandbox is there, or that has no version, is left alone", async () => {
    const fresh = newExecutor("fresh");
    fs.writeFileSync(join(fresh.root, "own"), "");
    const one = session ?? sessionOf("s1", "");
    await restoreWorkspace(objects, one, fresh.asExecutor);
    write("f", "x");
    await replica().store("s1");
    fresh.sandbox = "s1";
    await restoreWorkspace(objects, one, fresh.asExecutor);
    expect(fresh.names).toEqual(["own"]);
  });

  test("a session of an id that another had gets nothing of it", async () => {
    write("secret", "of the first");
    await replica().store("s1");
    const fresh = newExecutor("fresh");
    await restoreWorkspace(objects, sessionOf("s1", "2026-01-02T00:00:00.000Z"), fresh.asExecutor);
    expect(fresh.names).toEqual([]);
  });

  test("a store that fails on the way is the store's failure, and nothing half stays", async () => {
    for (let i = 0; i < 20; i++) write(`f${i}`, `file ${i}`);
    await replica().store("s1");
    let reads = 0;
    const failing = new Proxy(objects, {
      get(target, name: keyof Objects) {
        if (name === "get" && ++reads > 10) return () => Promise.reject(new AppError("store_unavailable", "no"));
        const value = target[name];
        return typeof value === "function" ? (value as (...all: unknown[]) => unknown).bind(target) : value;
      },
    });
    const fresh = newExecutor("fresh");
    const restoring = restoreWorkspace(failing, session ?? sessionOf("s1", ""), fresh.asExecutor);
    expect(await restoring.catch((error: unknown) => error)).toMatchObject({ code: "store_unavailable" });
    expect(fresh.names).toEqual([]);
  });
});

describe("after the end", () => {
  test("the last version is stored when nothing runs any more; what can't be stored is given up in time", async () => {
    write("f", "last");
    const ended = { ...(session ?? sessionOf("s1", "")), status: "terminated" as const };
    session = { ...ended, completed_at: new Date().toISOString() };
    const versions = replica();
    await versions.storeLast(session);
    expect([executor.sandbox, await stored()]).toEqual([null, { f: "last" }]);
    write("f", "more");
    executor.hooks.tree = () => Promise.reject(new AppError("executor_unavailable", "no"));
    expect(await versions.storeLast(session).catch((error: unknown) => error)).toMatchObject({
      code: "executor_unavailable",
    });
    await versions.storeLast({ ...session, completed_at: new Date(Date.now() - 6 * 60_000).toISOString() });
    expect(logged.at(-1)).toContain("workspace.lost_changes");
    expect((await versions.last(session))?.version).toBe(1);
  });

  test("files are listed and read as before, through links and never out of it", async () => {
    write("a/b/f.txt", "0123456789");
    fs.mkdirSync(join(executor.root, "empty"));
    for (const [name, target] of [
      ["in", "a/b/f.txt"],
      ["dir", "/workspace/a"],
      ["up", "a/../in"],
      ["out", "../secret"],
      ["abs", "/etc/passwd"],
      ["loop", "loop"],
    ] as const)
      fs.symlinkSync(target, join(executor.root, name));
    await replica().store("s1");
    const files = new StoredFiles(objects, await latestVersion(objects, storedName(session ?? sessionOf("s1", ""))));
    const list = async (path: string, recursive = true, limit = 100) =>
      (await files.listFiles("s1", path, { recursive, limit })).map((entry) => `${entry.type} ${entry.path}`);
    const links = ["abs", "dir", "in", "loop", "out", "up"].map((name) => `symlink ${name}`);
    expect(await list("", false)).toEqual(
      ["directory a", "directory empty", ...links].toSorted((a, b) =>
        (a.split(" ")[1] ?? "") < (b.split(" ")[1] ?? "") ? -1 : 1,
      ),
    );
    expect((await list("")).slice(-2)).toEqual(["directory a/b", "file a/b/f.txt"]);
    expect(await list("a")).toEqual(["directory a/b", "file a/b/f.txt"]);
    expect(await list("a/b/f.txt")).toEqual(["file a/b/f.txt"]);
    expect(await list("empty")).toEqual([]);
    expect((await list("", true, 3)).length).toBe(3);
    const read = async (path: string, headers: Record<string, string> = {}, method: "GET" | "HEAD" = "GET") => {
      const file = await files.readFile("s1", path, method, new Headers(headers));
      return [file.status, file.headers.get("content-length"), await new Response(file.body).text()];
    };
    for (const path of ["a/b/f.txt", "in", "dir/b/f.txt", "up"])
      expect(await read(path)).toEqual([200, "10", "0123456789"]);
    expect(await read("in", { Range: "bytes=2-4" })).toEqual([206, "3", "234"]);
    expect(await read("in", { Range: "bytes=20-" })).toEqual([416, null, ""]);
    expect(await read("in", {}, "HEAD")).toEqual([200, "10", ""]);
    for (const path of ["out", "abs", "loop", "loop/x"])
      expect(await read(path).catch((error: AppError) => error.code)).toBe("invalid_path" as never);
    for (const path of ["nope", "a/b/f.txt/x"])
      expect(await read(path).catch((error: AppError) => error.code)).toBe("file_not_found" as never);
    expect(await read("a").catch((error: AppError) => error.code)).toBe("file_conflict" as never);
  });

  test("versions of sessions that are deleted go with the garbage, and those of others stay", async () => {
    write("f", "x");
    await replica().store("s1");
    const kept = storedName(session ?? sessionOf("s1", ""));
    const manifest = { version: 1, created_at: "2026-01-01T00:00:00.000Z", entries: [] };
    await objects.putManifest(storedName(sessionOf("s1", "2025-01-01T00:00:00.000Z")), manifest);
    const sessions = { get: async (id: string) => (id === "s1" ? session : null) };
    await objects.putManifest(storedName(sessionOf("gone", "2025-01-01T00:00:00.000Z")), manifest);
    await collectStored({ objects, sessions, log, graceMs: GRACE_MS }, new AbortController().signal);
    expect(await Array.fromAsync(objects.workspaces())).toEqual([kept]);
    expect(await stored()).toEqual({ f: "x" });
  });
});
