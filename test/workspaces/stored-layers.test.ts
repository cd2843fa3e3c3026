import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createLog } from "../../src/log.ts";
import { openDiskObjects } from "../../src/objects/disk.ts";
import type { Objects } from "../../src/objects/objects.ts";
import { collectStored } from "../../src/workspaces/collect.ts";
import { isLayerName, StoredLayers } from "../../src/workspaces/stored-layers.ts";
import { storedName } from "../../src/workspaces/stored-name.ts";

const KEY = "a".repeat(64);
const OTHER = "b".repeat(64);
const DAY_MS = 24 * 3600 * 1000;

let dir: string;
let objects: Objects;

beforeEach(async () => {
  dir = mkdtempSync("/tmp/sandbox-test-");
  objects = await openDiskObjects(dir);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const bytes = (text: string): ReadableStream<Uint8Array> => new Blob([text]).stream();
const textOf = async (layers: StoredLayers, key: string): Promise<string | null> => {
  const body = await layers.open(key);
  return body === null ? null : new Response(body).text();
};

function collect(graceMs: number): Promise<void> {
  const log = createLog({ level: "error", format: "text", write: () => {} });
  const sessions = { get: () => Promise.resolve(null) };
  return collectStored({ objects, sessions, log, graceMs }, new AbortController().signal);
}

test("a layer is there under each of its keys, and the first one stays", async () => {
  const layers = new StoredLayers(objects);
  expect(await layers.open(KEY)).toBeNull();
  await layers.keep([KEY, OTHER], bytes("one"));
  await layers.keep([OTHER], bytes("two"));
  expect(await textOf(layers, KEY)).toBe("one");
  expect(await textOf(layers, OTHER)).toBe("one");
});

test("a collection keeps a layer that no session names, for a week", async () => {
  await new StoredLayers(objects, () => Date.now() - 6 * DAY_MS).keep([KEY], bytes("young"));
  await new StoredLayers(objects, () => Date.now() - 8 * DAY_MS).keep([OTHER], bytes("old"));
  await Bun.sleep(5);
  await collect(1);
  const layers = new StoredLayers(objects);
  expect(await textOf(layers, KEY)).toBe("young");
  expect(await layers.open(OTHER)).toBeNull();
  expect(await Array.fromAsync(objects.blobs())).toHaveLength(1);
});

test("no workspace is taken for a layer", () => {
  const longest = { id: `layers.${KEY}`.slice(0, 64), created_at: "9999-12-31T23:59:59.999Z" };
  expect(isLayerName(storedName(longest))).toBe(false);
  expect(isLayerName(storedName({ ...longest, id: "layers" }))).toBe(false);
  expect(isLayerName(`layers.${KEY}`)).toBe(true);
});
