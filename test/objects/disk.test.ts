import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "../../src/errors.ts";
import { openDiskObjects } from "../../src/objects/disk.ts";
import type { Objects } from "../../src/objects/objects.ts";
import { garbageContract } from "../contracts/garbage.ts";
import { objectsContract } from "../contracts/objects.ts";

const opened = async () => {
  const path = await mkdtemp(join(tmpdir(), "objects-"));
  return {
    objects: await openDiskObjects(path),
    close: async () => {
      expect(await readdir(join(path, "incoming"))).toEqual([]);
      await rm(path, { recursive: true });
    },
  };
};

objectsContract("disk", opened);
garbageContract("disk", opened);

describe("disk", () => {
  let path: string;
  let objects: Objects;
  beforeAll(async () => {
    path = await mkdtemp(join(tmpdir(), "objects-"));
    objects = await openDiskObjects(path);
  });
  afterAll(() => rm(path, { recursive: true }));

  const put = (text: string) => objects.put(new Response(text).body ?? new ReadableStream());
  const fileOf = (hash: string) => join(path, "blobs", hash.slice(0, 2), hash.slice(2));

  test("a blob that was damaged on the disk is not given as whole", async () => {
    for (const damage of ["jello", "hell"]) {
      const { sha256 } = await put("hello");
      await writeFile(fileOf(sha256), damage);
      const found = await objects.get(sha256);
      const read = new Response(found?.body).text();
      expect(await read.catch((error: unknown) => error)).toBeInstanceOf(AppError);
    }
  });

  test("files are the service's alone", async () => {
    const { sha256 } = await put("private");
    expect((await stat(fileOf(sha256))).mode & 0o777).toBe(0o600);
  });

  test("what a crash left half written is gone after the next start", async () => {
    await writeFile(join(path, "incoming", "left"), "half");
    await openDiskObjects(path);
    expect(await readdir(join(path, "incoming"))).toEqual([]);
  });

  test("memory does not grow with a blob", async () => {
    const chunk = new Uint8Array(1024 * 1024);
    const source = (count: number) => {
      let left = count;
      return new ReadableStream<Uint8Array>({
        pull: (controller) => (left-- > 0 ? controller.enqueue(chunk) : controller.close()),
      });
    };
    await objects.put(source(4));
    Bun.gc(true);
    const before = process.memoryUsage().rss;
    const { sha256, size } = await objects.put(source(200));
    expect(size).toBe(200 * chunk.length);
    let read = 0;
    for await (const part of (await objects.get(sha256))?.body ?? []) read += part.length;
    expect(read).toBe(size);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
  });

  test("a directory that can't be written answers that the store is unavailable", async () => {
    await rm(join(path, "incoming"), { recursive: true });
    expect(await put("x").catch((caught: unknown) => caught)).toMatchObject({ code: "store_unavailable" });
  });
});
