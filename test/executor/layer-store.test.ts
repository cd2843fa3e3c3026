import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { LayerStore } from "../../src/executor/layers/layer-store.ts";

const HOUR_S = 3600;
let dir = "";

beforeEach(() => {
  dir = mkdtempSync("/tmp/sandbox-layers-");
});
afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

/** A directory of a build with `bytes` in one file. */
function built(bytes: number): string {
  const path = `${dir}/built`;
  mkdirSync(`${path}/bin`, { recursive: true });
  writeFileSync(`${path}/module.py`, "x".repeat(bytes), { mode: 0o666 });
  writeFileSync(`${path}/bin/tool`, "", { mode: 0o4777 });
  return path;
}

function usedHoursAgo(digest: string, hours: number): void {
  const atS = Date.now() / 1000 - hours * HOUR_S;
  utimesSync(`${dir}/layer-index/${digest}.json`, atS, atS);
}

test("a layer outlives the store, and what is half made does not", async () => {
  const { name } = await new LayerStore(dir, 1e9).add("d1", built(10), [{ name: "a", version: "1" }], 1e9);
  mkdirSync(`${dir}/layers/half`);
  const again = new LayerStore(dir, 1e9);
  expect(again.find("d1")).toEqual({ name, path: `/.layers/${name}`, packages: [{ name: "a", version: "1" }] });
  expect(again.find("d2")).toBeNull();
  expect(readdirSync(`${dir}/layers`)).toEqual([name]);
});

test.each(["", "\0".repeat(40), '{"name":"', "null", "{}"])(
  "a layer whose entry a power cut left as %j is gone, and can be made again",
  async (left) => {
    const { name } = await new LayerStore(dir, 1e9).add("d1", built(10), [], 1e9);
    writeFileSync(`${dir}/layer-index/d1.json`, left);
    const again = new LayerStore(dir, 1e9);
    expect([again.find("d1"), readdirSync(`${dir}/layers`)]).toEqual([null, []]);
    const made = await again.add("d1", built(10), [], 1e9);
    expect(made.name).not.toBe(name);
    expect(again.find("d1")).toEqual(made);
  },
);

test("nobody but the executor can write to a layer", async () => {
  const { name } = await new LayerStore(dir, 1e9).add("d1", built(10), [], 1e9);
  expect(statSync(`${dir}/layers/${name}/module.py`).mode & 0o7777).toBe(0o644);
  expect(statSync(`${dir}/layers/${name}/bin/tool`).mode & 0o7777).toBe(0o755);
});

test("the least recently used go first, never one in use", async () => {
  const store = new LayerStore(dir, 250_000);
  const names: string[] = [];
  for (const digest of ["d1", "d2", "d3", "d4"]) names.push((await store.add(digest, built(100_000), [], 1e9)).name);
  for (const [index, digest] of ["d1", "d2", "d3", "d4"].entries()) usedHoursAgo(digest, 4 - index);
  await store.trim(new Set([names[0] ?? ""]));
  expect(["d1", "d2", "d3", "d4"].map((digest) => store.find(digest) !== null)).toEqual([true, false, false, true]);
  expect(existsSync(`${dir}/layers/${names[1]}`)).toBe(false);
});

test("a layer that was asked for a moment ago stays", async () => {
  const store = new LayerStore(dir, 1000);
  await store.add("d1", built(100_000), [], 1e9);
  await store.trim(new Set());
  expect(store.find("d1")).not.toBeNull();
});

test("a link in place of the packages is refused", async () => {
  symlinkSync("/etc", `${dir}/built`);
  const added = new LayerStore(dir, 1e9).add("d1", `${dir}/built`, [], 1e9);
  expect(await added.catch((error: unknown) => error)).toMatchObject({ code: "dependency_failed" });
  expect(readdirSync(`${dir}/layers`)).toEqual([]);
});

test("one that is larger than a build may be is refused, however quickly it was made", async () => {
  const added = new LayerStore(dir, 1e9).add("d1", built(3 * 1024 ** 2), [], 2 * 1024 ** 2);
  expect(await added.catch((error: unknown) => error)).toMatchObject({
    code: "dependency_failed",
    message: "the disk limit of 2 MiB was reached",
  });
  expect(readdirSync(`${dir}/layers`)).toEqual([]);
});
