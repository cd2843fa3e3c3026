import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WorkspaceChanges, type WorkspaceMark } from "../../src/executor/artifacts.ts";
import { IS_ROOT } from "./jail/fixture.ts";

let root: string;
let changes: WorkspaceChanges;
beforeEach(() => {
  root = mkdtempSync("/tmp/artifacts-test-");
  changes = new WorkspaceChanges(root);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A mark at the kernel's present file time. */
function mark(): WorkspaceMark {
  const probe = `${root}.probe`;
  writeFileSync(probe, "");
  const { mtimeMs } = statSync(probe);
  rmSync(probe);
  return changes.mark(mtimeMs);
}

async function changed(since: WorkspaceMark): Promise<string[]> {
  return (await changes.since(since)).map((artifact) => `${artifact.type} ${artifact.path}`);
}

/** Lets the kernel's file clock go on, so that what was written before differs from what comes after. */
const tick = (): Promise<void> => Bun.sleep(12);

test("a large tree is walked in turns and costs what changed only", async () => {
  for (let d = 0; d < 30; d++) {
    mkdirSync(join(root, `d${d}/e`), { recursive: true });
    for (let f = 0; f < 100; f++) writeFileSync(join(root, `d${d}/e/f${f}`), "x");
  }
  await tick();
  const since = mark();
  const found = changes.since(since);
  expect(found).toBeInstanceOf(Promise);
  expect(await found).toEqual([]);
  writeFileSync(join(root, "d7/e/f3"), "y");
  writeFileSync(join(root, "d7/new"), "y");
  const both = await Promise.all([changed(since), changed(since)]);
  expect(both[0]).toEqual(["modified d7/e/f3", "created d7/new"]);
  expect(both[1]).toEqual(both[0] ?? []);
});

test("a file replaced by another of its name is modified, not created", async () => {
  writeFileSync(join(root, "data"), "1");
  await changed(mark());
  await tick();
  const since = mark();
  writeFileSync(join(root, "data.tmp"), "2");
  renameSync(join(root, "data.tmp"), join(root, "data"));
  expect(await changed(since)).toEqual(["modified data"]);
});

test("two executions at once are both told what came while they ran", async () => {
  const first = mark();
  writeFileSync(join(root, "a"), "1");
  expect(await changed(first)).toEqual(["created a"]);
  await tick();
  const second = mark();
  writeFileSync(join(root, "b"), "1");
  expect(await changed(second)).toEqual(["created b"]);
  expect(await changed(first)).toEqual(["created a", "created b"]);
});

test("links are not followed and caches are no artifacts", async () => {
  const since = mark();
  symlinkSync("/etc", join(root, "etc"));
  symlinkSync("/etc/passwd", join(root, "passwd"));
  mkdirSync(join(root, "__pycache__"));
  writeFileSync(join(root, "__pycache__/x.pyc"), "");
  expect(await changed(since)).toEqual([]);
});

test("a workspace that is gone has no artifacts", async () => {
  const since = mark();
  rmSync(root, { recursive: true });
  expect(await changed(since)).toEqual([]);
});

test("a directory that its mode closes to its own user hides its files and no others", async () => {
  const since = mark();
  mkdirSync(join(root, "closed"));
  writeFileSync(join(root, "closed/hidden"), "1");
  writeFileSync(join(root, "seen"), "1");
  // Its names can still be listed, and nothing more be asked of them.
  chmodSync(join(root, "closed"), 0o400);
  try {
    expect(await changed(since)).toEqual(IS_ROOT ? ["created closed/hidden", "created seen"] : ["created seen"]);
    changes.wroteOutside("closed/hidden");
  } finally {
    chmodSync(join(root, "closed"), 0o700);
  }
});
